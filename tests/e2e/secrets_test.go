package e2e

import (
	"bytes"
	"slices"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/secret"
)

// noSecrets searches everything that was written here, byte by byte, for every value that it ever stored and every key
// that a person made: Temporal's database, the worker's logs. What the command line prints is searched by the tests of
// starter.
func (w *env) noSecrets() {
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
		anything = anything || place != workerLog && slices.ContainsFunc(values, func(v secret.Value) bool {
			return bytes.Contains(text, []byte(v.Fingerprint()))
		})
	}
	// The search must be able to find something: fingerprints are in the history.
	if !anything {
		w.Error("the database does not even hold a fingerprint of these values: the search proves nothing")
	}
}

// workerLog is the place that is no file of Temporal's.
const workerLog = "the worker's log"

// written is what was left in files and logs.
func (w *env) written() map[string][]byte {
	w.Helper()
	places, err := testenv.Written()
	if err != nil {
		w.Fatal(err)
	}
	places[workerLog] = []byte(w.Logs())
	return places
}
