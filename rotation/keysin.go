package rotation

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/secret"
)

// keyWords are what can be a key within a text.
var keyWords = regexp.MustCompile(`[A-Za-z0-9._~+/=-]{20,}`)

// KeysIn returns the fingerprints of all that looks like a key in what somebody sent: in every text of a JSON value, and
// in names of fields; in the whole of it if it is not JSON. A key in a sentence, in quotes or in an assignment is found as
// it would be stored.
func KeysIn(data []byte) (fingerprints []string) {
	for _, text := range texts(data) {
		text = revealed(text)
		found := slices.DeleteFunc(keyWords.FindAllString(text, -1), func(w string) bool { return !LooksLikeKey(w) })
		if len(found) == 0 && LooksLikeKey(text) {
			found = []string{text}
		}
		for _, one := range found {
			if f := secret.FromString(bare(one)).Fingerprint(); !slices.Contains(fingerprints, f) {
				fingerprints = append(fingerprints, f)
			}
		}
	}
	return fingerprints
}

// texts returns all texts of a JSON value, in an order that is always the same.
//
//workflowcheck:ignore
func texts(data []byte) (all []string) {
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case string:
			all = append(all, strings.Trim(v, " \t\r\n\"'`"))
		case []any:
			for _, one := range v {
				collect(one)
			}
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				all = append(all, name)
				collect(v[name])
			}
		}
	}
	var v any
	if json.Unmarshal(data, &v) != nil {
		return []string{string(data)}
	}
	collect(v)
	return all
}

// bare takes away what stands around a key in a sentence or an assignment.
func bare(word string) string {
	if i := strings.Index(word, "sk-"); i > 0 {
		word = word[i:]
	} else if _, value, ok := strings.Cut(word, "="); ok && LooksLikeKey(value) {
		word = value
	}
	return strings.TrimRight(word, ".")
}
