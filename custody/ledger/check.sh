#!/bin/sh
# check: judges the proof that an entry is in a log, with openssl and sha256sum alone.
#
#   sh check FOLDER LOG.PEM        FOLDER: with `entry` and `proof`; LOG.PEM: the log's public key, from another hand
#
# A proof (C2SP tlog-proof) holds the entry's number, hashes, and a checkpoint: name, number of entries and tree head, signed
# by the log with Ed25519. RFC 9162, section 2.1.3.2, says how number and hashes lead from the entry to the tree head.
# It ends with `verdict: accept` (exit code 0) or `verdict: refuse` (12, 13 or 19). It writes to a folder of its own alone.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

refuse() { # code, message
    printf 'refuse       %s\nverdict: refuse\n' "$2"
    exit "$1"
}
number() { # text: a decimal number without leading zeros, that a shell can count with
    case $1 in '' | *[!0-9]* | 0?*) refuse 13 "expected a number, found: $1" ;; esac
    [ "${#1}" -le 18 ] || refuse 13 "number too large: $1"
}
if [ $# -ne 2 ] || [ ! -f "$1/entry" ] || [ ! -f "$1/proof" ] || [ ! -f "$2" ]; then
    echo 'expected: sh check FOLDER LOG.PEM' >&2
    exit 2
fi
for program in openssl sha256sum base64 awk sed; do
    command -v "$program" >/dev/null || { echo "check: $program: not installed" >&2; exit 41; }
done
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cp "$1/entry" "$WORK/entry"
cp "$1/proof" "$WORK/proof"
cp "$2" "$WORK/key"
cd "$WORK"

# The proof in its parts: head (number and hashes), body (what is signed), signatures.
[ "$(sed -n 1p proof)" = c2sp.org/tlog-proof@v1 ] || refuse 13 'the proof is not a C2SP tlog-proof'
sed '/^$/,$d' proof | sed 1d >'./head'
sed '1,/^$/d' proof | sed '/^$/,$d' >body
sed '1,/^$/d' proof | sed '1,/^$/d' >signatures
[ "$(wc -l <body)" -eq 3 ] || refuse 13 'the checkpoint is not origin, size and tree head'
name=$(sed -n 1p body) size=$(sed -n 2p body) at=$(sed -n '1s/^index //p' ./head)
number "$size"
number "$at"
entry=$at
[ "$at" -lt "$size" ] || refuse 13 "entry $at is not below the checkpoint's size, $size"

# One signature of the log must hold: four bytes of key id, then 64 of Ed25519.
signed=
while read -r _dash signer signature; do
    [ "$signer" = "$name" ] || continue
    printf '%s' "$signature" | base64 -d 2>/dev/null | tail -c +5 >sig || continue
    if openssl pkeyutl -verify -pubin -inkey key -rawin -in body -sigfile sig >/dev/null 2>&1; then signed=yes; fi
done <signatures
[ -n "$signed" ] || refuse 12 "no signature of $name under this key holds"

# From the leaf up: 0x00 before an entry, 0x01 before two nodes.
{ printf '\000'; cat entry; } | openssl dgst -sha256 -binary >node
printf 'leaf         %s\n' "$({ printf '\000'; cat entry; } | sha256sum | cut -d' ' -f1)"
last=$((size - 1))
sed 1d ./head >path
while read -r text; do
    [ "$last" -gt 0 ] || refuse 19 'the proof has more hashes than such a tree'
    printf '%s' "$text" | base64 -d >other 2>/dev/null || refuse 13 'a hash of the proof is not base64'
    [ "$(wc -c <other)" -eq 32 ] || refuse 13 'a hash of the proof has not 32 bytes'
    if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$last" ]; then
        { printf '\001'; cat other node; } | openssl dgst -sha256 -binary >next
        while [ $((at % 2)) -eq 0 ] && [ "$at" -gt 0 ]; do
            at=$((at / 2)) last=$((last / 2))
        done
    else
        { printf '\001'; cat node other; } | openssl dgst -sha256 -binary >next
    fi
    mv next node
    at=$((at / 2)) last=$((last / 2))
done <path
[ "$last" -eq 0 ] || refuse 19 'the proof has fewer hashes than such a tree'
[ "$(base64 <node)" = "$(sed -n 3p body)" ] || refuse 19 "the entry is not number $entry of the log that was signed"
printf 'log          %s\n' "$name"
printf 'entry        %s of %s\n' "$entry" "$size"
printf 'verdict: accept\n'
