// Package secretsearch looks for secrets where none may be (I5): tests hand it what was written, and the values that
// must not be in it.
package secretsearch

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/secret"
)

// window is how many characters in a row give a secret away, wherever in the value they are. A printer that cuts its text
// shows a part of a key only.
const window = 12

// constant is the first line of a private key in PKCS #8 and base64. It says what kind of key it is, and begins the modulus,
// which is public; the rest of such keys is secret, or follows from it.
var constant = regexp.MustCompile(`^MII[A-Za-z0-9+/]{61}`)

// material are the runs of a value that are long enough to be secret: the lines of a private key, an API key.
var material = regexp.MustCompile(`[A-Za-z0-9+/_=-]{32,}`)

// keyID is how everybody names a Google key; its file holds it, and it is not a secret.
var keyID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// prefix is how many bytes of a needle its first look compares.
const prefix = 8

type needle struct {
	form        []byte
	fingerprint string
}

// Search looks for every window of every value, in every encoding that it could have on its way out: as it is, hex,
// base64 (both alphabets, at any offset), escaped for JSON or a URL, and shortened as providers' error texts do.
type Search struct {
	needles map[uint64][]needle
	// begins is a filter before the map: most of a text begins nothing.
	begins [1 << 16]bool
}

// New prepares a search for values. Values without a run of 32 characters are not searched for: see Searches.
func New(values ...secret.Value) *Search {
	s := &Search{needles: map[uint64][]needle{}}
	for _, v := range values {
		for _, form := range forms(v) {
			first := binary.LittleEndian.Uint64([]byte(form))
			s.needles[first] = append(s.needles[first], needle{[]byte(form), v.Fingerprint()})
			s.begins[uint16(first)] = true
		}
	}
	return s
}

// Searches reports whether the search looks for anything of v.
func Searches(v secret.Value) bool { return len(forms(v)) > 0 }

// In returns the fingerprints of the values that text holds a part of, each once.
func (s *Search) In(text []byte) []string {
	var found []string
	for i := 0; i+prefix <= len(text); i++ {
		if !s.begins[binary.LittleEndian.Uint16(text[i:])] {
			continue
		}
		for _, n := range s.needles[binary.LittleEndian.Uint64(text[i:])] {
			if bytes.HasPrefix(text[i:], n.form) && !slices.Contains(found, n.fingerprint) {
				found = append(found, n.fingerprint)
			}
		}
	}
	return found
}

func forms(v secret.Value) []string {
	var all []string
	// A key file is JSON: its line ends are two characters.
	for _, run := range material.FindAllString(strings.ReplaceAll(v.Reveal(), `\n`, "\n"), -1) {
		if keyID.MatchString(run) {
			continue
		}
		all = append(all, run[:8]+strings.Repeat("*", len(run)-12)+run[len(run)-4:])
		run = run[len(constant.FindString(run)):]
		for at := 0; at+window <= len(run); at++ {
			all = append(all, encoded(run[at:at+window])...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// encoded are the encodings of one window.
func encoded(part string) []string {
	all := []string{
		part, hex.EncodeToString([]byte(part)), strings.ToUpper(hex.EncodeToString([]byte(part))),
		url.QueryEscape(part), url.PathEscape(part), strings.ReplaceAll(part, "/", `\/`), strings.ReplaceAll(part, "+", `\u002b`),
	}
	// Within base64 of a longer text a part can begin at any of three offsets; the ends depend on its neighbours.
	for skip := range 3 {
		inner := []byte(part[skip : len(part)-(len(part)-skip)%3])
		all = append(all, base64.StdEncoding.EncodeToString(inner), base64.URLEncoding.EncodeToString(inner))
	}
	return all
}
