# verify.sh: how a bundle is judged without this project's Python; carried by `start` and by the auditor's `check`.
#
# Needs openssl (3.5 or newer for profile cnsa), and of a plain Debian: sha256sum, sha384sum, base64, find, sed, awk,
# grep, sort, comm, cmp, cut, tr, cp, stat, df. From its carrier it wants $here (a folder with sealed/ and carrier/,
# only read), $WORK (a new folder), and the functions `say` (a step), `note` (a fact) and `die` (exit code, message, next). Formats:
# docs/design/trust.md.
# JSON is not parsed: everything that is read here has one spelling (RFC 8785), and what is not of the expected form is
# refused. Inside of a JSON string every quotation mark follows a backslash, so no text can pass for a key.
unset OPENSSL_CONF OPENSSL_CONF_INCLUDE OPENSSL_MODULES OPENSSL_ENGINES
again='do not use this medium; fetch another one from where it was made'
sha=sha256 # or sha384, once it is known which of them counts
# A terminal obeys what it is sent: what a medium says gets there in plain letters only.
printable() { printf %s "$1" | tr -c '[:print:]' '?'; }
digest() { "${2:-$sha}sum" <"$1" | cut -d' ' -f1; } # file, algorithm
is() { [ -f "$1" ] && [ "$(digest "$1" "${3:-$sha}")" = "$2" ]; } # file, digest, algorithm

# --- A private copy: what is judged is what was read once --------------------------------------------------------
private_copy() { # extended regular expression of the files that stay where they are
    mkdir "$WORK/copy" "$WORK/keys"
    cd "$here"
    find sealed carrier ! -type f ! -type d >"$WORK/odd"
    [ ! -s "$WORK/odd" ] || die 13 "neither file nor folder: $(head -n 1 "$WORK/odd")" "$again"
    find sealed carrier -type f -perm /7000 >"$WORK/odd"
    [ ! -s "$WORK/odd" ] || die 13 "$(head -n 1 "$WORK/odd"): setuid, setgid or sticky" "$again"
    find carrier -type f -size +65536k >"$WORK/odd"
    [ ! -s "$WORK/odd" ] || die 13 "$(head -n 1 "$WORK/odd"): more than 64 MiB" "$again"
    find sealed carrier -type d -empty >"$WORK/odd"
    [ ! -s "$WORK/odd" ] || die 13 "$(head -n 1 "$WORK/odd"): an empty folder" "$again"
    find sealed carrier -type f >"$WORK/files"
    ! grep -avE '^[A-Za-z0-9._+~%@=/-]+$' "$WORK/files" >"$WORK/odd" ||
        die 13 "a name that no bundle has: $(head -n 1 "$WORK/odd")" "$again"
    [ "$(wc -l <"$WORK/files")" = "$(find sealed carrier -type f -printf x | wc -c)" ] || die 13 'a name with a line break' "$again"
    sed -n 's|^carrier/||p' "$WORK/files" | grep -vxE '@CARRIER@' >"$WORK/odd" || :
    [ ! -s "$WORK/odd" ] || die 13 "carrier/$(head -n 1 "$WORK/odd"): may not lie here" "$again"
    sed -n 's|^\(carrier/trust/.*\)\.flat$|\1.json|p' "$WORK/files" | grep -vxFf "$WORK/files" >"$WORK/odd" || :
    [ ! -s "$WORK/odd" ] || die 13 "$(head -n 1 "$WORK/odd"): missing, and its flat twin is there" "$again"
    grep -vE "$1" "$WORK/files" >"$WORK/private"
    needed=$(xargs -r stat -c %s <"$WORK/private" | awk '{ bytes += $1 } END { printf "%.0f", bytes / 1024 + 4 * NR }')
    free=$(df -Pk "$WORK" | awk 'NR == 2 { print $4 }')
    [ "$needed" -lt "$free" ] || die 43 "$WORK: expected $needed KiB for a private copy, found $free" 'df -h; make room there'
    xargs -r cp --parents --no-preserve=all -t "$WORK/copy" <"$WORK/private"
    cd "$WORK/copy"
}

# --- Envelopes and their signatures --------------------------------------------------------------------------------
envelope() { # file, payload type, size limit in bytes, new folder -> in it: payload, pae, signatures (KEYID BASE64), KEYID.sig
    mkdir "$4"
    [ -f "$1" ] || die 13 "$1: missing" "$again"
    [ "$(wc -c <"$1")" -le "$3" ] || die 13 "$1: more than $3 bytes" "$again"
    one='\{"keyid":"[0-9a-f]{64}","sig":"[A-Za-z0-9+/]*={0,2}"\}'
    if [ "$(wc -l <"$1")" != 0 ] || ! grep -aqE \
        '^\{"payload":"[A-Za-z0-9+/]*={0,2}","payloadType":"[a-z0-9./+-]+","signatures":\[('"$one(,$one)*"')?\]\}$' "$1"; then
        die 13 "$1: not a DSSE envelope in its one spelling" "$again"
    fi
    kind=$(cut -d'"' -f8 "$1") # cut and tr go through megabytes in one line where sed would want a gigabyte
    [ "$kind" = "$2" ] || die 13 "$1: expected the payload type $2, found $kind" "$again"
    cut -d'"' -f4 "$1" | tr -d '\n' >"$4/base64"
    unbase64 "$4/base64" "$4/payload" || die 13 "$1: payload: not Base64 in its one spelling" "$again"
    [ "$(wc -l <"$4/payload")" = 0 ] || die 13 "$1: payload: more than one line" "$again"
    { printf 'DSSEv1 %s %s %s ' "${#2}" "$2" "$(wc -c <"$4/payload")"; cat "$4/payload"; } >"$4/pae"
    { tr '{' '\n' <"$1"; echo; } | sed -n 's|^"keyid":"\([0-9a-f]*\)","sig":"\([^"]*\)".*|\1 \2|p' >"$4/signatures"
    cut -d' ' -f1 "$4/signatures" | sort -cu 2>/dev/null || die 13 "$1: two signatures of one key, or not sorted by key" "$again"
    [ "$(wc -l <"$4/signatures")" -le 64 ] || die 13 "$1: more than 64 signatures" "$again"
    while read -r keyid text; do
        printf %s "$text" >"$WORK/keys/base64"
        unbase64 "$WORK/keys/base64" "$4/$keyid.sig" || die 13 "$1: a signature: not Base64 in its one spelling" "$again"
    done <"$4/signatures"
}
unbase64() { # file, new file; false when it is not Base64, or not as base64 itself would write it
    base64 -d <"$1" >"$2" 2>/dev/null && [ "$(base64 -w 0 <"$2" | sha256sum)" = "$(sha256sum <"$1")" ]
}
signers() { # name, an envelope's folder, flat root, file of revoked key ids -> FOLDER/signers: PERSON SCHEME a line
    # Unknown keys are passed over; a false signature of a known one refuses all, since nobody honest makes one.
    : >"$2/signers"
    while read -r keyid _; do
        holder=$(awk -v keyid="$keyid" '$1 == "key" && $3 == keyid { print $2, length($4) == 160 ? "p384" : "ml-dsa" }' "$3")
        [ -n "$holder" ] || continue
        person=${holder% *}
        true_signature "${holder#* }" "$WORK/keys/$keyid.pem" "$2/$keyid.sig" "$2/pae" ||
            die 12 "$1: the signature of $person (key $keyid) is false" "$again"
        if grep -qx "$keyid" "$4"; then
            note "$1: signed with key $keyid of $person, which is revoked: not counted"
        else
            printf '%s\n' "$holder" >>"$2/signers"
        fi
    done <"$2/signatures"
}
true_signature() { # scheme, public key, signature, what it is over
    # openssl reads 104 bytes of a P-384 signature, the most that one needs, and passes over what follows.
    if [ "$1" = p384 ]; then
        [ "$(wc -c <"$3")" -le 104 ] && openssl dgst -sha384 -verify "$2" -signature "$3" "$4" >/dev/null 2>&1
    else
        [ "$(wc -c <"$3")" = 4627 ] && openssl pkeyutl -verify -pubin -inkey "$2" -rawin -in "$4" -sigfile "$3" >/dev/null 2>&1
    fi
}
enough() { # name, an envelope's folder, flat root, role -> $persons, if they are as many as the role wants
    wanted=$(awk -v role="$4" '$1 == "threshold" && $2 == role { print $3 }' "$3")
    persons=$(awk -v role="$4" 'FILENAME == ARGV[1] { signed[$1, $2] = 1; next }
        $1 == "profile" { cnsa = $2 == "cnsa" }
        $1 == "role" && $3 == role && (($2, "p384") in signed) && (!cnsa || (($2, "ml-dsa") in signed)) { print $2 }' \
        "$2/signers" "$3" | sort -u)
    count=$(printf '%s\n' "$persons" | grep -c . || :)
    persons=$(printf %s "$persons" | tr '\n' ' ')
    [ "$count" -ge "$wanted" ] || die 12 "$1: expected signatures of $wanted $4(s), found $count (${persons:-nobody})" "$again"
}

# --- Roots: from the one on the paper to the newest; each signed by enough root persons of the one before and its own ---
root() { # number -> $flat: its flat twin, which says what the payload says and makes sense; $sha: its profile's
    flat=carrier/trust/$1.root.flat
    { cat "$WORK/root.$1/payload"; echo; } | sed -n 's|^{"_type":"airgap-root","flat_sha384":"\([0-9a-f]*\)","persons":\[.*\],"profile":"\([a-z0-9]*\)","schema_version":1,"thresholds":{[a-z0-9":,]*},"version":\([0-9]*\)}$|\1 \2 \3|p' \
        >"$WORK/root.$1/facts"
    read -r twin profile version <"$WORK/root.$1/facts" || die 14 "carrier/trust/$1.root.json: not a root" "$again"
    [ "$version" = "$1" ] || die 14 "carrier/trust/$1.root.json: expected version $1, found $version" "$again"
    is "$flat" "$twin" sha384 || die 13 "$flat: not the flat twin of $1.root.json" "$again"
    key='\{"keyid":"[0-9a-f]{64}","public":"[A-Za-z0-9+/]+=*","scheme":"[a-z0-9-]+"\}'
    person='\{"keys":\[('$key'(,'$key')*)?\],"name":"[a-z][a-z0-9-]{0,31}","roles":\["[a-z]+"(,"[a-z]+")*\]\}'
    threshold='"[a-z]+":[1-9][0-9]*'
    grep -aqE '^[^[]*"persons":\['"$person(,$person)*"'\],"profile":[^[]*"thresholds":\{'"$threshold(,$threshold)*"'\},"version":[0-9]*\}$' \
        "$WORK/root.$1/payload" ||
        die 14 "carrier/trust/$1.root.json: not a root" "$again"
    # An object a line, cut at its quotation marks: keys come before the name and the roles of their person.
    { tr '{' '\n' <"$WORK/root.$1/payload"; echo; } | awk -F'"' -v version="$1" -v profile="$profile" '
        BEGIN { print "airgap-root 1\nversion " version "\nprofile " profile }
        $2 == "keyid" {
            key[++keys] = $4 " " $8
            if ($12 != (length($8) == 160 ? "ecdsa-p384-sha384" : "ml-dsa-87")) print "another scheme"
        }
        /"name":".*"roles":/ {
            for (at = 2; $at != "name"; at++) { }
            if ($(at + 2) "" <= name "") print "persons out of order"
            name = $(at + 2)
            for (at += 6; $(at - 1) ~ /^(:\[|,)$/; at += 2) persons = persons "role " name " " $at "\n"
            for (at = 1; at <= keys; at++) persons = persons "key " name " " key[at] "\n"
            keys = 0
        }
        before ~ /"thresholds":$/ { for (at = 2; at < NF - 1; at += 2) { gsub(/[^0-9]/, "", $(at + 1)); print "threshold " $at " " $(at + 1) } }
        { before = $0 }
        END { printf "%s", persons }' >"$WORK/root.$1/flat"
    cmp -s "$flat" "$WORK/root.$1/flat" || die 14 "$flat: does not say what $1.root.json says" "$again"
    case $profile in
        p384) sha=sha256 ;;
        cnsa)
            sha=sha384
            openssl list -signature-algorithms 2>/dev/null | grep -q ML-DSA-87 ||
                die 41 "openssl: $(openssl version) has no ML-DSA-87, and root $1 has profile cnsa" 'use openssl 3.5 or newer (Debian 13)'
            ;;
        *) die 14 "carrier/trust/$1.root.json: unknown profile $profile" "$again" ;;
    esac
    # P-384, named curve, uncompressed: 24 fixed bytes of the key's DER are 32 characters of Base64, and 160 are all of it.
    # ML-DSA-87: 22 fixed bytes are 29 characters and two bits of the next, and 3488 are all of it.
    why=$(awk -v version="$1" -v profile="$profile" '
        function bad(text) { if (!why) why = text }
        # Thresholds by role, then persons by name, with roles before keys.
        NR > 3 { at = $1 == "threshold" ? "0 " $2 : "1 " $2 " " ($1 == "key") " " $3; if (at <= place) bad("line " NR " is out of order"); place = at }
        NR == 1 { if ($0 != "airgap-root 1") bad("first line"); next }
        NR == 2 { if ($0 != "version " version) bad("version"); next }
        NR == 3 { if ($0 != "profile " profile) bad("profile"); next }
        /^threshold (root|builder|approver|recovery) [1-9][0-9]*$/ { if ($2 in wanted) bad("two thresholds"); wanted[$2] = $3; next }
        /^role [a-z][a-z0-9-]* (root|builder|approver|recovery)$/ { role[$2, $3] = 1; person[$2] = 1; next }
        /^key [a-z][a-z0-9-]* [0-9a-f]+ [A-Za-z0-9+\/]+=*$/ && length($3) == 64 && ((length($4) == 160 &&
            substr($4, 1, 32) == "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE") || (length($4) == 3488 && profile == "cnsa" &&
            substr($4, 1, 29) == "MIIKMjALBglghkgBZQMEAxMDggohA" && substr($4, 30, 1) ~ /[A-P]/ && $4 ~ /[AQgw]==$/)) {
            if ($3 in holder) bad("key " $3 " is under " holder[$3] " and " $2)
            holder[$3] = $2; has[$2, length($4)] = 1; next
        }
        { bad("line " NR) }
        END {
            for (p in person) {
                if ((p, "builder") in role && (p, "approver") in role) bad(p " is builder and approver")
                for (r in wanted) if (((p, r) in role) && ((p, 160) in has) && (profile == "p384" || ((p, 3488) in has))) count[r]++
            }
            if (!(("root" in wanted) && ("builder" in wanted) && ("approver" in wanted))) bad("a threshold is missing")
            for (r in wanted) if (wanted[r] + 0 > count[r] + 0) bad("threshold for " r)
            printf "%s", why
        }' "$flat")
    [ -z "$why" ] || die 14 "$flat: $why: the root is void" "$again"
    awk '$1 == "key" { print $3, $4 }' "$flat" >"$WORK/root.$1/keys"
    while read -r keyid public; do
        printf %s "$public" | base64 -d >"$WORK/keys/der"
        is "$WORK/keys/der" "$keyid" sha256 || die 14 "$flat: key $keyid is not what its id says" "$again"
        openssl pkey -pubin -inform DER -in "$WORK/keys/der" -out "$WORK/keys/$keyid.pem" 2>/dev/null ||
            die 14 "$flat: key $keyid is no point of the curve" "$again"
    done <"$WORK/root.$1/keys"
}
believe_roots() { # fingerprint from the paper -> $flat: of the newest root; $newest: its number
    say 'root of trust'
    pinned=$(printf %s "$1" | tr -d ' :' | tr 'A-F' 'a-f')
    case ${#pinned} in
        64) sha=sha256 ;;
        96) sha=sha384 ;;
        *) die 14 "fingerprint: expected 64 or 96 digits, found ${#pinned}" 'copy all of it from the paper' ;;
    esac
    believed='' newest=0 shown='' flat='' nobody=$WORK/nobody algorithm=$sha
    : >"$nobody"
    sed -n 's|^carrier/trust/\([1-9][0-9]\{0,3\}\)\.root\.json$|\1|p' "$WORK/files" | sort -n >"$WORK/roots"
    while read -r newest; do
        name=carrier/trust/$newest.root.json
        envelope "$name" application/vnd.airgap.root+json 1048576 "$WORK/root.$newest"
        found=$(digest "$WORK/root.$newest/payload" "$algorithm")
        shown="$shown $found" before=$flat
        root "$newest"
        if [ -z "$believed" ]; then
            [ "$found" = "$pinned" ] || continue
            believed=$newest
            is "$WORK/root.$newest/payload" "$pinned" ||
                die 14 "root: expected the fingerprint $pinned, found $(digest "$WORK/root.$newest/payload")" "$again"
            signers "$name" "$WORK/root.$newest" "$flat" "$nobody"
            enough "$name" "$WORK/root.$newest" "$flat" root
            continue
        fi
        believed=$((believed + 1))
        [ "$believed" = "$newest" ] || die 14 "carrier/trust/$believed.root.json: missing; roots follow each other one by one" "$again"
        for judge in "$before" "$flat"; do
            signers "$name" "$WORK/root.$newest" "$judge" "$nobody"
            enough "$name, judged by ${judge##*/}" "$WORK/root.$newest" "$judge" root
        done
    done <"$WORK/roots"
    newest=$(tail -n 1 "$WORK/roots") # read leaves it empty at the end
    [ -n "$believed" ] || die 14 "root: expected the fingerprint $pinned, found${shown:- no root}" "$again"
    note "root $newest, from the fingerprint $pinned"
}

# --- Revocations: signed by root persons whose own keys are not on the list --------------------------------------
believe_revocations() { # $flat -> $revocations: number; $WORK/revoked.keys, $WORK/revoked.statements
    revocations=0
    : >"$WORK/revoked.keys"
    : >"$WORK/revoked.statements"
    name=carrier/trust/revocations.json
    if grep -qx "$name" "$WORK/files"; then
        envelope "$name" application/vnd.airgap.revocations+json 1048576 "$WORK/revocations"
        reason='"([^"\\]|\\.)+"'
        key='"[0-9a-f]{64}":'$reason bundle='"([0-9a-f]{64}|[0-9a-f]{96})":'$reason
        grep -aqE '^\{"_type":"airgap-revocations","flat_sha384":"[0-9a-f]{96}","keys":\{('"$key(,$key)*"')?\},"number":[1-9][0-9]{0,14},"schema_version":1,"statements":\{('"$bundle(,$bundle)*"')?\}\}$' \
            "$WORK/revocations/payload" || die 14 "$name: not a list of revocations" "$again"
        list=carrier/trust/revocations.flat
        is "$list" "$(cut -d'"' -f8 "$WORK/revocations/payload")" sha384 || die 13 "$list: not the flat twin of revocations.json" "$again"
        # Parted where no reason can be: its quotation marks follow a backslash.
        awk '{ at = index($0, "},\"number\":"); print substr($0, 1, at); print substr($0, at + 11) }' "$WORK/revocations/payload" >"$WORK/revocations/halves"
        revocations=$(sed -n '2s/,.*//p' "$WORK/revocations/halves")
        {
            printf 'airgap-revocations 1\nnumber %s\n' "$revocations"
            head -n 1 "$WORK/revocations/halves" | grep -oaE '"[0-9a-f]{64}":"' | sed 's/^"/key /; s/":"$//' || :
            tail -n 1 "$WORK/revocations/halves" | grep -oaE '"[0-9a-f]{64,96}":"' | sed 's/^"/statement /; s/":"$//' || :
        } >"$WORK/revocations/flat"
        cmp -s "$list" "$WORK/revocations/flat" || die 14 "$list: does not say what revocations.json says" "$again"
        sed -n 's/^key //p' "$list" >"$WORK/revoked.keys"
        sed -n 's/^statement //p' "$list" >"$WORK/revoked.statements"
        signers "$name" "$WORK/revocations" "$flat" "$WORK/revoked.keys"
        enough "$name" "$WORK/revocations" "$flat" root
    fi
    note "revocations $revocations: $(wc -l <"$WORK/revoked.keys") keys, $(wc -l <"$WORK/revoked.statements") bundles"
}

# --- The Statement: enough builders and approvers, and not taken back ----------------------------------------------
judge_statement() { # $flat -> $statement: its digest
    say 'signatures'
    name=carrier/statement.dsse.json
    envelope "$name" application/vnd.in-toto+json 67108864 "$WORK/statement"
    signers "$name" "$WORK/statement" "$flat" "$WORK/revoked.keys"
    for role in builder approver; do
        enough "$name" "$WORK/statement" "$flat" "$role"
        note "$role: $persons"
    done
    while read -r keyid _; do
        [ -f "carrier/sig/$keyid.sig" ] || die 13 "carrier/sig/$keyid.sig: missing" "$again"
        [ "$(wc -c <"carrier/sig/$keyid.sig")" -le 8192 ] || die 13 "carrier/sig/$keyid.sig: more than 8192 bytes" "$again"
        is "carrier/sig/$keyid.sig" "$(digest "$WORK/statement/$keyid.sig")" ||
            die 12 "carrier/sig/$keyid.sig: differs from the signature in statement.dsse.json" "$again"
    done <"$WORK/statement/signatures"
    cut -d' ' -f1 "$WORK/statement/signatures" | sed 's|.*|carrier/sig/&.sig|' >"$WORK/listed"
    odd=$(grep '^carrier/sig/' "$WORK/files" | grep -vxFf "$WORK/listed" | head -n 1)
    [ -z "$odd" ] || die 12 "$odd: is not in statement.dsse.json" "$again"
    [ -f carrier/statement.json ] || die 13 'carrier/statement.json: missing' "$again"
    statement=$(digest "$WORK/statement/payload")
    is carrier/statement.json "$statement" ||
        die 12 'carrier/statement.json: differs from the payload of statement.dsse.json' "$again"
    ! grep -qx "$statement" "$WORK/revoked.statements" || die 17 "Statement $statement: revoked in list $revocations" 'ask for a newer release'
}

# --- The list of files, which the Statement names, and what lies there ---------------------------------------------
judge_list() {
    say 'list of files'
    # The Statement, an object a line, each line as one letter: bundle, files, perhaps an sbom's parts, target, subject.
    text='"[] !#-[^-~]{1,256}"' number='(0|[1-9][0-9]{0,14})' one='[1-9][0-9]{0,14}' hex='"[0-9a-f]{64}"'
    path='"[A-Za-z0-9._+~%@=/-]{1,512}"'
    long=$hex digits=64 list=SHA256SUMS flat_digests='"sha256":'$hex
    if [ "$sha" = sha384 ]; then # beside it the SHA-256 that a file's makers name it by
        long='"[0-9a-f]{96}"' digits=96 list=SHA384SUMS
        flat_digests=$flat_digests',"sha384":'$long
    fi
    bundle='"base":null,"channel":'$text',"digest":"'$sha'","lock_sha256":'$hex',"lowest_revocation":'$number
    bundle=$bundle',"lowest_verifier":'$text',"name":'$text',"security_epoch":'$one',"source_date_epoch":'$number
    file='"leaf_root":'$long',"mode":"0(644|755)","path":'$path','$flat_digests',"size_bytes":'$number'\}'
    target='"architecture":'$text',"distribution":'$text',"driver":(null|'$text'),"kernel":'$text',"python":'$text
    part='"path":'$path','$flat_digests'\}'
    { tr '{' '\n' <carrier/statement.json; echo; } >"$WORK/lines"
    shape=$(sed -E '
        s|^$|0|; t
        s|^"_type":"https://in-toto\.io/Statement/v1","predicate":$|1|; t
        s|^"bundle":$|2|; t
        s/^'"$bundle"',"version":'"$one"'\},"files":\[$/3/; t
        s/^'"$file"',$/f/; t
        s/^'"$file"'\],"sbom":\[\],"target":$/g/; t
        s/^'"$file"'\],"sbom":\[$/h/; t
        s/^'"$target"',"release":'"$text"'\}\},"predicateType":"urn:airgap:bundle:v1","subject":\[$/4/; t
        s|^"digest":$|5|; t
        s|^"'"$sha"'":'"$long"'\},"name":"'"$list"'"\}\]\}$|6|; t
        s/^'"$part"',$/p/; t
        s/^'"$part"'\],"target":$/q/; t
        s/.*/?/' "$WORK/lines" | tr -d '\n')
    printf '%s\n' "$shape" | grep -qE '^0123f*(g|hp*q)456$' || die 13 'carrier/statement.json: not a Statement in its one spelling' "$again"
    sums=$(tail -n 1 "$WORK/lines" | cut -d'"' -f4)
    [ -f "sealed/$list" ] || die 13 "sealed/$list: missing" "$again"
    is "sealed/$list" "$sums" || die 11 "sealed/$list: expected $sha $sums" "$again"
    # Before sha256sum sees it: it would read `-`, links and much else. A component starts with neither `-` nor `.`.
    part='[A-Za-z0-9_+~%@=][A-Za-z0-9._+~%@=-]*'
    ! grep -aqvE "^[0-9a-f]{$digits}  $part(/$part)*\$" "sealed/$list" || die 13 "sealed/$list: bad line" "$again"
    sed -n 's|^"leaf_root":.*,"path":"\([^"]*\)",.*"'"$sha"'":"\([0-9a-f]*\)".*|\2  \1|p' "$WORK/lines" >"$WORK/sums"
    sed -n 's|^"path":"\([^"]*\)",.*"'"$sha"'":"\([0-9a-f]*\)"}.*|\2  \1|p' "$WORK/lines" >"$WORK/documents"
    [ "$(grep "^.\{$((digits + 2))\}sbom/" "$WORK/sums")" = "$(cat "$WORK/documents")" ] || die 13 'carrier/statement.json: sbom is not what lies in sealed/sbom' "$again"
    is "$WORK/sums" "$sums" || die 13 "sealed/$list: does not list the files of the Statement" "$again"
    cut -c$((digits + 3))- "sealed/$list" >"$WORK/names"
    sort -cu "$WORK/names" 2>/dev/null || die 13 "sealed/$list: not sorted, or a name twice" "$again"
    odd=$(awk '
        length($0) > 512 { print "a name of more than 512 bytes"; exit }
        {
            $0 = tolower($0)
            if ($0 in file) { print $0 ": two names alike but for case"; exit }
            file[$0] = 1
            count = split($0, part, "/")
            path = part[1]
            for (i = 2; i <= count; i++) { folder[path] = 1; path = path "/" part[i] }
        }
        END { for (path in folder) if (path in file) print path ": a file, and a folder" }' "$WORK/names" | head -n 1)
    [ -z "$odd" ] || die 13 "sealed/$list: $odd" "$again"
    sed -n 's|^"leaf_root":.*,"path":"\([^"]*\)",.*"size_bytes":\([0-9]*\)}.*|\1 \2|p' "$WORK/lines" | sort >"$WORK/sizes"
    { cat "$WORK/names"; echo "$list"; } | sort >"$WORK/listed"
    sed -n 's|^sealed/||p' "$WORK/files" | sort >"$WORK/there"
    comm -13 "$WORK/listed" "$WORK/there" >"$WORK/extra"
    comm -23 "$WORK/listed" "$WORK/there" >"$WORK/missing"
    [ ! -s "$WORK/extra" ] || die 13 "sealed/$(head -n 1 "$WORK/extra"): extra, nobody signed it" "$again"
    [ ! -s "$WORK/missing" ] || die 13 "sealed/$(head -n 1 "$WORK/missing"): missing" "$again"
    (cd "$here" && sed 's|^|sealed/|' "$WORK/names" | xargs -r stat -c '%n %s') | sed 's|^sealed/||' | sort >"$WORK/found"
    odd=$(comm -23 "$WORK/sizes" "$WORK/found" | head -n 1)
    [ -z "$odd" ] || die 13 "sealed/${odd% *}: not of ${odd##* } bytes, as the Statement has it" "$again"
}
judge_copied() { # extended regular expression of the files, below sealed/, that stayed where they are
    say 'digests'
    grep -vE "^.{$((digits + 2))}($1)" "sealed/$list" >"$WORK/sums"
    digests .
    { sed -n 4p "$WORK/lines"; grep '^"architecture":' "$WORK/lines"; } >"$WORK/told"
    for key in format bundle channel version security_epoch base source_date_epoch lowest_revocation lowest_verifier \
        distribution release architecture python kernel driver; do
        case $key in
            format) said=1 ;;
            bundle) said=$(told name) ;;
            *) said=$(told "$key") ;;
        esac
        printf '%s=%s\n' "$key" "$said"
    done >"$WORK/facts"
    cmp -s "$WORK/facts" sealed/facts.txt || die 13 'sealed/facts.txt: does not say what the Statement says' "$again"
    lowest=$(fact lowest_revocation)
    [ "$revocations" -ge "$lowest" ] ||
        die 14 "revocations: expected number $lowest or higher, found $revocations: the list was taken away, or is an old one" "$again"
}
judge_stayed() { # the same expression, folder with sealed/
    grep -E "^.{$((digits + 2))}($1)" "sealed/$list" >"$WORK/sums" || :
    [ ! -s "$WORK/sums" ] || digests "$2"
}
digests() { # folder with sealed/; of the files in $WORK/sums
    (cd "$1/sealed" && "${sha}sum" -c --strict --quiet "$WORK/sums") >"$WORK/failed" 2>/dev/null && return
    first=$(grep -m 1 ': FAILED' "$WORK/failed" || echo 'a file: FAILED')
    case $first in
        *': FAILED open or read') die 40 "sealed/${first%: FAILED*}: cannot be read" 'look at dmesg, and at who may read it' ;;
    esac
    die 11 "sealed/${first%: FAILED*}: differs from its digest" "$again"
}
told() { sed -nE "s/^(.*,)?\"$1\":(\"([^\"]*)\"|([0-9]+)|null).*/\3\4/p" "$WORK/told"; } # of the Statement
fact() { sed -n "s/^$1=//p" sealed/facts.txt; }
