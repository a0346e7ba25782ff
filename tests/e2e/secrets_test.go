package e2e

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/secret"
)

// noSecrets searches everything that this town wrote, byte by byte, for every value that it ever stored and every key
// that a person made: Temporal's database, the worker's logs. What the command line prints is searched by the tests of
// starter.
func (w *town) noSecrets() {
	w.Helper()
	values := append(w.SM.Seen(), w.made...)
	if len(values) < 2 {
		w.Fatal("no values to search for: the search proves nothing")
	}
	search := secretsearch.New(values...)
	anything := false
	for place, text := range w.written() {
		for _, fingerprint := range search.In(text) {
			w.Errorf("%s holds a part of the secret %s", place, fingerprint)
		}
		anything = anything || strings.HasPrefix(place, database) && slices.ContainsFunc(values, func(v secret.Value) bool {
			return bytes.Contains(text, []byte(v.Fingerprint()))
		})
	}
	// The search must be able to find something: fingerprints are in the history.
	if !anything {
		w.Error("the database does not even hold a fingerprint of these values: the search proves nothing")
	}
}

// written is what this town left in files and logs.
func (w *town) written() map[string][]byte {
	w.Helper()
	places := map[string][]byte{"the worker's log": []byte(w.log())}
	for _, file := range []string{database, database + "-wal"} {
		text, err := os.ReadFile(file)
		if err != nil {
			w.Fatal(err)
		}
		places[file] = text
	}
	return places
}
