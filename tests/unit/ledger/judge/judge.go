// Judges a log with the code of Go's own checksum database (golang.org/x/mod/sumdb), as its client would.
//
//	judge VKEY FOLDER
//
// FOLDER holds `checkpoint` and `tile/` as C2SP tlog-tiles lays them out, `older` (an earlier checkpoint), `growth`
// from there (C2SP tlog-witness), `entry` and its `proof` (C2SP tlog-proof). It prints what it accepted and ends with 1 at the first thing that it does not.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

// open verifies a checkpoint's signature and reads its head.
func open(text []byte, key note.Verifier) tlog.Tree {
	opened, err := note.Open(text, note.VerifierList(key))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		must(fmt.Errorf("not a checkpoint of %s", key.Name()))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	hash, err := tlog.ParseHash(lines[2])
	must(err)
	return tlog.Tree{N: size, Hash: hash}
}

// reader reads C2SP tiles, whose path has no height in it.
type reader struct{ folder string }

func (r reader) Height() int                      { return 8 }
func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r reader) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		read, err := os.ReadFile(filepath.Join(r.folder, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		data = append(data, read)
	}
	return data, nil
}

func main() {
	folder := os.Args[2]
	key, err := note.NewVerifier(os.Args[1])
	must(err)
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(folder, name))
		must(err)
		return data
	}
	head := open(read("checkpoint"), key)
	fmt.Println("checkpoint", head.N)
	older := open(read("older"), key)
	hashes := tlog.TileHashReader(head, reader{folder})

	proof, err := tlog.ProveTree(head.N, older.N, hashes)
	must(err)
	must(tlog.CheckTree(proof, head.N, head.Hash, older.N, older.Hash))
	fmt.Println("goes on from", older.N)

	lines := strings.Split(string(read("growth")), "\n")
	if lines[0] != fmt.Sprintf("old %d", older.N) {
		must(fmt.Errorf("not a proof from %d", older.N))
	}
	var growth tlog.TreeProof
	at := 1
	for ; lines[at] != ""; at++ {
		hash, err := tlog.ParseHash(lines[at])
		must(err)
		growth = append(growth, hash)
	}
	newer := open([]byte(strings.Join(lines[at+1:], "\n")), key)
	must(tlog.CheckTree(growth, newer.N, newer.Hash, older.N, older.Hash))
	fmt.Println("and proves it")

	for number := int64(0); number < head.N; {
		tile := tlog.Tile{H: 8, L: -1, N: number / 256, W: int(min(256, head.N-number/256*256))}
		path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
		bundle := read(path)
		for ; len(bundle) > 0; number++ {
			size := binary.BigEndian.Uint16(bundle)
			entry := bundle[2 : 2+size]
			bundle = bundle[2+size:]
			record, err := tlog.ProveRecord(head.N, number, hashes)
			must(err)
			must(tlog.CheckRecord(record, head.N, head.Hash, number, tlog.RecordHash(entry)))
		}
	}
	fmt.Println("entries", head.N)

	lines = strings.Split(string(read("proof")), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		must(fmt.Errorf("not a proof: %s", lines[0]))
	}
	number, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	must(err)
	var path tlog.RecordProof
	at = 2
	for ; lines[at] != ""; at++ {
		hash, err := base64.StdEncoding.DecodeString(lines[at])
		must(err)
		path = append(path, tlog.Hash(hash))
	}
	proven := open([]byte(strings.Join(lines[at+1:], "\n")), key)
	must(tlog.CheckRecord(path, proven.N, proven.Hash, number, tlog.RecordHash(read("entry"))))
	fmt.Println("proof of", number)
}
