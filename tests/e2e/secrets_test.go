package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"regexp"
	"strings"

	"github.com/rekeyhq/rekey/secret"
)

// material are the runs of a value that are long enough to be secret: the lines of a private key, an API key.
var material = regexp.MustCompile(`[A-Za-z0-9+/_=-]{32,}`)

// public are parts of a key file that are no secret.
func public(part string) bool {
	// The key's id is how everybody names it.
	return regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(part)
}

// noSecrets searches everything that this town wrote, byte by byte, for every value that it ever stored: Temporal's
// database, the worker's logs.
func (w *town) noSecrets() {
	w.Helper()
	places := map[string][]byte{"the worker's log": []byte(w.log())}
	for _, file := range []string{database, database + "-wal"} {
		text, err := os.ReadFile(file)
		if err != nil {
			w.Fatal(err)
		}
		places[file] = text
	}
	values := w.SM.Seen()
	if len(values) < 2 {
		w.Fatal("no values to search for: the search proves nothing")
	}
	for _, v := range values {
		for _, part := range parts(v) {
			for _, form := range forms(part) {
				for place, text := range places {
					if bytes.Contains(text, []byte(form)) {
						w.Errorf("%s holds a part of the secret %s", place, v.Fingerprint())
					}
				}
			}
		}
	}
	// The search must be able to find something: fingerprints are in the history, and in the log.
	newest := values[len(values)-1].Fingerprint()
	if !bytes.Contains(append(places[database], places[database+"-wal"]...), []byte(newest)) {
		w.Errorf("the database does not even hold the fingerprint %s: the search proves nothing", newest)
	}
}

func parts(v secret.Value) []string {
	var all []string
	for _, p := range material.FindAllString(strings.ReplaceAll(v.Reveal(), `\n`, "\n"), -1) {
		if !public(p) {
			all = append(all, p)
		}
	}
	return all
}

// forms are the encodings that a part could have on its way into a file.
func forms(part string) []string {
	all := []string{part, hex.EncodeToString([]byte(part))}
	// Within base64 of a longer text a part can begin at any of three offsets; the ends depend on its neighbours.
	for skip := range 3 {
		inner := part[skip : len(part)-(len(part)-skip)%3]
		all = append(all, base64.StdEncoding.EncodeToString([]byte(inner)))
	}
	return all
}
