#!/bin/sh
# check: judges a bundle with openssl and sha256sum (or sha384sum) alone, for whoever does not want to trust airgap's own code.
#
#   sh check BUNDLE [FINGERPRINT]        BUNDLE: a folder with sealed/ and carrier/; FINGERPRINT: from the paper
#
# It only reads BUNDLE, and writes to a folder of its own below ${TMPDIR:-/tmp} that it removes. It needs no root and no
# network. It ends with `verdict: accept` (exit code 0) or `verdict: refuse` (10 to 19, as docs/reference/exit-codes.md
# says); when it cannot do its work, with `verdict: none` and another code. What it cannot know stands in lines
# `not judged`, always the same three. README.txt, which lies beside it, is the page to follow.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

usage='sh check BUNDLE [FINGERPRINT]'
say() { printf 'judging      %s\n' "$1"; }
note() { printf '             %s\n' "$(printable "$1")"; }
die() { # code, message, next
    told=1
    case $1 in
        1[0-9]) printf 'refuse       %s\nnext         %s\nverdict: refuse\n' "$(printable "$2")" "$3" ;;
        *) printf 'check: %s\n  next: %s\nverdict: none, nothing was judged to its end\n' "$(printable "$2")" "$3" ;;
    esac
    exit "$1"
}
#@VERIFY@

if [ $# -lt 1 ] || [ $# -gt 2 ]; then die 2 'expected a folder, and perhaps a fingerprint' "$usage"; fi
here=$(readlink -m "$1")
if [ ! -d "$here/sealed" ] || [ ! -d "$here/carrier" ]; then die 20 "$1: expected a folder with sealed/ and carrier/" "$usage"; fi
for program in openssl sha256sum base64 find awk sed; do
    command -v "$program" >/dev/null || die 41 "$program: not installed" "apt-get install $program"
done
WORK=$(mktemp -d) told=''
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    status=$?
    cd /
    rm -rf "$WORK"
    [ -n "$told" ] && exit "$status"
    printf 'verdict: none, a program failed or was stopped\n'
    exit 42
}
trap cleanup EXIT
trap 'told=1; exit 130' INT TERM HUP

if [ $# = 2 ]; then
    typed=$2
else
    printf 'Fingerprint of the root, all of it, from the paper: ' >&2
    typed=''
    IFS= read -r typed || : # the end without a line's end is an answer, too
fi
payload='data/' # hashed where it lies; all else is judged from a private copy
private_copy "^sealed/$payload"
believe_roots "$typed"
believe_revocations
judge_statement
judge_list
judge_copied "$payload"
judge_stayed "$payload" "$here"
note "$(wc -l <"$WORK/names") files of $(fact bundle)-$(fact version), channel $(fact channel)"
note "$sha of the Statement: $statement"
base=$(fact base)
printf 'not judged   %s\n' \
    "version $(fact version), security epoch $(fact security_epoch): whether a host has accepted newer ones before" \
    "base ${base:-none}: whether a host has it" \
    "target $(fact distribution) $(fact release) $(fact architecture), airgap $(fact lowest_verifier): whether a host is one and has it"
told=1
printf 'verdict: accept\n'
