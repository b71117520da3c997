#!/bin/sh
# check: judges what left a log, with openssl, sha256sum, gzip and coreutils alone.
#
#   sh check FOLDER LOG.PEM        LOG.PEM: the log's public key, from another hand
#
# FOLDER, with `entry` and `proof`: that the entry is in the log. A proof (C2SP tlog-proof) holds the entry's number, hashes,
# and a checkpoint: name, number of entries and tree head, signed by the log with Ed25519. RFC 9162, section 2.1.3.2, says how
# number and hashes lead from the entry to the tree head.
# FOLDER, with `segments/` and `checkpoint`: that these are the entries of the log, all of each segment's 65,536; with `older`
# and `growth`: that the log goes on from the older checkpoint (RFC 9162, section 2.1.4.2).
# It ends with `verdict: accept` (exit code 0) or `verdict: refuse` (12, 13 or 19). It writes to a folder of its own alone.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
SEGMENT=65536

refuse() { # code, message
    printf 'refuse       %s\nverdict: refuse\n' "$2"
    exit "$1"
}
number() { # text: a decimal number without leading zeros, that a shell can count with
    case $1 in '' | *[!0-9]* | 0?*) refuse 13 "expected a number, found: $1" ;; esac
    [ "${#1}" -le 18 ] || refuse 13 "number too large: $1"
}
open_note() { # file: sets name, size, root; one signature of the log must hold: four bytes of key id, then 64 of Ed25519
    sed '/^$/,$d' "$1" >body
    sed '1,/^$/d' "$1" >signatures
    [ "$(wc -l <body)" -eq 3 ] || refuse 13 'the checkpoint is not origin, size and tree head'
    name=$(sed -n 1p body) size=$(sed -n 2p body) root=$(sed -n 3p body)
    number "$size"
    signed=
    while read -r _dash signer signature; do
        [ "$signer" = "$name" ] || continue
        printf '%s' "$signature" | base64 -d 2>/dev/null | tail -c +5 >sig || continue
        if openssl pkeyutl -verify -pubin -inkey key -rawin -in body -sigfile sig >/dev/null 2>&1; then signed=yes; fi
    done <signatures
    [ -n "$signed" ] || refuse 12 "no signature of $name under this key holds"
}
hash_of() { # text of a hash, file
    printf '%s' "$1" | base64 -d >"$2" 2>/dev/null || refuse 13 'a hash is not base64'
    [ "$(wc -c <"$2")" -eq 32 ] || refuse 13 'a hash has not 32 bytes'
}
joined() { # two files: the hash of a node over them, 0x01 before both, in the file `next`
    { printf '\001'; cat "$1" "$2"; } | openssl dgst -sha256 -binary >next
}
climb() { # at, last: from `node`, at its place among those of its level, of which the last one is named, up along `path`
    at=$1 last=$2
    while read -r text; do
        [ "$last" -gt 0 ] || refuse 19 'the proof has more hashes than such a tree'
        hash_of "$text" other
        if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$last" ]; then
            joined other node
            while [ $((at % 2)) -eq 0 ] && [ "$at" -gt 0 ]; do
                at=$((at / 2)) last=$((last / 2))
            done
        else
            joined node other
        fi
        mv next node
        at=$((at / 2)) last=$((last / 2))
    done <path
    [ "$last" -eq 0 ] || refuse 19 'the proof has fewer hashes than such a tree'
}
judge_entry() {
    [ "$(sed -n 1p proof)" = c2sp.org/tlog-proof@v1 ] || refuse 13 'the proof is not a C2SP tlog-proof'
    sed '/^$/,$d' proof | sed 1d >'./head'
    sed '1,/^$/d' proof >checkpoint
    entry=$(sed -n '1s/^index //p' ./head)
    number "$entry"
    open_note checkpoint
    [ "$entry" -lt "$size" ] || refuse 13 "entry $entry is not below the checkpoint's size, $size"
    # From the leaf up: 0x00 before an entry, 0x01 before two nodes.
    { printf '\000'; cat entry; } | openssl dgst -sha256 -binary >node
    printf 'leaf         %s\n' "$({ printf '\000'; cat entry; } | sha256sum | cut -d' ' -f1)"
    sed 1d ./head >path
    climb "$entry" $((size - 1))
    [ "$(base64 <node)" = "$root" ] || refuse 19 "the entry is not number $entry of the log that was signed"
    printf 'log          %s\n' "$name"
    printf 'entry        %s of %s\n' "$entry" "$size"
}
require_lines() { # file, compressed: its lines are entries, which begin with `{`, and ends of groups, `#FIRST SIZE ROOT`
    # A NUL would hide from some tools what follows it in its line.
    [ "$(gzip -dc "$1" | tr -cd '\000' | wc -c)" -eq 0 ] || refuse 13 'a line of the segment has a NUL in it'
    [ "$(gzip -dc "$1" | sed -e '/^{/d' -e '/^#[0-9]\{1,19\} [0-9]\{1,19\} [A-Za-z0-9+/]\{43\}=$/d' | wc -c)" -eq 0 ] ||
        refuse 13 'a line of the segment is neither an entry nor the end of a group'
}
segment_head() { # on standard input the text of a segment: its tree head in `node`; a file for each hash, a level at a time
    mkdir level
    awk '/^[{]/ { file = sprintf("level/%05d", n++); printf "%c%s", 0, $0 >file; close(file) }'
    find level -type f >found
    [ "$(wc -l <found)" -eq "$SEGMENT" ] || refuse 19 "expected $SEGMENT entries, found $(wc -l <found)"
    while :; do
        (cd level && printf '%s\0' * | xargs -0 sha256sum | cut -c1-64) >hashes
        rm -rf level
        [ "$(wc -l <hashes)" -gt 1 ] || break
        mkdir level
        awk 'NR % 2 { left = $0; next } { printf "01%s%s", left, $0 }' hashes | tr a-f A-F | basenc --base16 -d |
            split -b 65 -a 4 - level/
    done
    tr a-f A-F <hashes | tr -d '\n' | basenc --base16 -d >node
}
judge_growth() { # the checkpoint is open; `older` and `growth` are there
    new=$size new_root=$root new_name=$name
    open_note older
    [ "$name" = "$new_name" ] || refuse 19 'the older checkpoint is of another log'
    old=$size old_root=$root
    [ "$old" -le "$new" ] || refuse 19 "the older checkpoint has $old entries, the newer one $new"
    [ "$(sed -n '1s/^old //p' growth)" = "$old" ] || refuse 13 'the proof of growth is not of the older checkpoint'
    sed '/^$/,$d' growth | sed 1d >path
    if [ "$old" -eq "$new" ] || [ "$old" -eq 0 ]; then
        [ ! -s path ] || refuse 19 'the proof of growth has more hashes than such a tree'
        [ "$old" -eq 0 ] || [ "$old_root" = "$new_root" ] || refuse 19 'two pasts of the same size were signed'
    else
        at=$((old - 1)) last=$((new - 1))
        while [ $((at % 2)) -eq 1 ]; do at=$((at / 2)) last=$((last / 2)); done
        if [ "$at" -eq 0 ]; then { echo "$old_root"; cat path; } >whole; else cp path whole; fi
        [ -s whole ] || refuse 19 'the proof of growth has fewer hashes than such a tree'
        hash_of "$(sed -n 1p whole)" first
        cp first second
        sed 1d whole >path
        while read -r text; do
            [ "$last" -gt 0 ] || refuse 19 'the proof of growth has more hashes than such a tree'
            hash_of "$text" other
            if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$last" ]; then
                joined other first && mv next first
                joined other second && mv next second
                while [ $((at % 2)) -eq 0 ] && [ "$at" -gt 0 ]; do at=$((at / 2)) last=$((last / 2)); done
            else
                joined second other && mv next second
            fi
            at=$((at / 2)) last=$((last / 2))
        done <path
        [ "$last" -eq 0 ] || refuse 19 'the proof of growth has fewer hashes than such a tree'
        [ "$(base64 <first) $(base64 <second)" = "$old_root $new_root" ] ||
            refuse 19 "the log of $new entries does not go on from the older one of $old"
    fi
    printf 'goes on      from %s entries\n' "$old"
}
judge_segments() {
    open_note checkpoint
    printf 'log          %s\n' "$name"
    [ ! -f growth ] || (judge_growth) || exit "$?"
    count=0
    for packed in "$FOLDER"/segments/*.log.gz; do
        first=${packed##*/} first=${first%.log.gz}
        case $first in *[!0-9]* | '') refuse 13 "not a segment: $packed" ;; esac
        short=$(printf '%s' "$first" | sed 's/^0*\(.\)/\1/')
        number "$short"
        [ $((short % SEGMENT)) -eq 0 ] || refuse 13 "no segment begins at entry $short"
        [ $((short + SEGMENT)) -le "$size" ] || refuse 13 "segment $short is not below the checkpoint's size, $size"
        gzip -t "$packed" 2>/dev/null || refuse 13 "segment $short does not unpack"
        require_lines "$packed"
        gzip -dc "$packed" | segment_head || exit "$?"
        cp "$FOLDER/segments/$first.path" path || refuse 13 "segment $short has no path"
        climb $((short / SEGMENT)) $(((size - 1) / SEGMENT))
        [ "$(base64 <node)" = "$root" ] || refuse 19 "segment $short is not of the log that was signed"
        printf 'segment      entries %s to %s of %s\n' "$short" $((short + SEGMENT - 1)) "$size"
        count=$((count + 1))
    done
    [ "$count" -gt 0 ] || refuse 13 'no segment is there'
}

if [ $# -ne 2 ] || [ ! -f "$2" ] || { [ ! -f "$1/proof" ] && [ ! -d "$1/segments" ]; }; then
    echo 'expected: sh check FOLDER LOG.PEM' >&2
    exit 2
fi
for program in openssl sha256sum base64 basenc awk sed gzip split xargs; do
    command -v "$program" >/dev/null || { echo "check: $program: not installed" >&2; exit 41; }
done
FOLDER=$(cd "$1" && pwd)
# A segment makes 65,536 small files, in memory where there is such a place.
if [ -d "$FOLDER/segments" ] && [ -z "${TMPDIR-}" ] && [ -w /dev/shm ]; then TMPDIR=/dev/shm && export TMPDIR; fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cp "$2" "$WORK/key"
for file in entry proof checkpoint older growth; do
    [ ! -f "$FOLDER/$file" ] || cp "$FOLDER/$file" "$WORK/$file"
done
cd "$WORK"
if [ -d "$FOLDER/segments" ]; then judge_segments; else judge_entry; fi
printf 'verdict: accept\n'
