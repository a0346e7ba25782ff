package rotation_test

import (
	"slices"
	"testing"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

func TestAKeyIsFoundWhereverItWasSent(t *testing.T) {
	const key, other = "sk-proj-0123456789_abcdefghij-ABCDEFGHIJ", "AKIA0123456789ABCDEF"
	for what, c := range map[string]struct {
		sent string
		want []string
	}{
		"alone":                        {`"` + key + `"`, []string{key}},
		"in a sentence":                {`{"why": "the new key is ` + key + `."}`, []string{key}},
		"in quotes within quotes":      {`{"version": "'` + key + `'\n"}`, []string{key}},
		"in an assignment":             {`{"by": "OPENAI_API_KEY=` + key + `"}`, []string{key}},
		"as the name of a field":       {`{"` + key + `": 1}`, []string{key}},
		"deep in lists, twice":         {`[[{"a": ["` + key + `"]}], "` + key + `"]`, []string{key}},
		"two keys":                     {`{"b": "` + other + ` x", "a": "` + key + `"}`, []string{key, other}},
		"in what is no JSON":           {`key: ` + key, []string{key}},
		"nothing that looks like one":  {`{"by": "night shift", "why": "the quarter is over", "version": "7"}`, nil},
		"what a console's list shows":  {`{"why": "I revoked sk-...AbCd"}`, nil},
		"no input":                     {``, nil},
		"a key with a dash at its end": {`"` + key + `-"`, []string{key + "-"}},
	} {
		var want []string
		for _, w := range c.want {
			want = append(want, secret.FromString(w).Fingerprint())
		}
		if got := rotation.KeysIn([]byte(c.sent)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
}
