package rotation_test

import (
	"slices"
	"strings"
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
		"in escapes of JSON":           {`{"why": "\u0073k-proj-0123456789_abcdefghij-\u0041BCDEFGHIJ"}`, []string{key}},
		"escaped, a text in a text":    {`"{\"why\": \"\\u0073k-proj-0123456789_abcdefghij-ABCDEFGHIJ\"}"`, []string{key}},
		"with what nobody sees in it":  {"{\"why\": \"sk-proj-0123456789\u200b_abcdefghij-\u202eABCDEFGHIJ\"}", []string{key}},
		"escaped in what is no JSON":   {`why: \u0073k-proj-0123456789_abcdefghij-ABCDEFGHIJ`, []string{key}},
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

// A name that ends a word in "sk" before a hyphen is no key, however long it is.
func TestWhatPeopleCallThingsIsNoKey(t *testing.T) {
	for _, text := range []string{
		"disk-snapshot-uploader-production", "risk-assessment-service-eu-1", "task-internationalization-frontend", "sk-openai-production-eu-2",
		"sk-ecdsa-sha2-nistp256@openssh.com", "sk-ssh-ed25519@openssh.com", "arn:aws:iam::123456789012:role/rekey-production-worker",
		"SHA256:uNiVztksCsDhcc0u9e8BrqXVODdAsOBaPjHBSJJPmrE", "5d41402abc4b2a76b9719d911017c592aaaabbbb", "# " + strings.Repeat("=", 80), strings.Repeat("_", 60),
		"/tmp/TestAKeyThatLeakedIsReplacedWithinAMinuteAndNothingFails1234567890/001/rekey.yaml", "THE_KEY_OF_PAYMENTS_IN_PRODUCTION_IN_EUROPE_WEST_1_FOR_THE_NIGHT", "sk-",
	} {
		if rotation.LooksLikeKey(text) {
			t.Errorf("%q is taken for a key", text)
		}
	}
	for _, text := range []string{
		"sk-abcdefghijklmnopqrstuvwxyz", "disk-abcdefghijklmnopqrstuvwx1", "sk-proj-Ab1_cd-ef-gh-ij-kl-mn", "sk-a1-b2-c3-d4-e5-f6-g7-h8-i9-j0-k1-l2-m3-n4", `"\u0073k-abcdefghijklmnopqrstuvwxyz"`,
		strings.Repeat("a1", 24), "0123456789abcdef0123456789abcdef0123456789abcdef", "Q1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
		"AKIA\u200b0123456789ABCDEF",
	} {
		if !rotation.LooksLikeKey(text) {
			t.Errorf("%q is not taken for a key", text)
		}
	}
}

func TestTextThatTurnsAroundOrHidesIsNoLine(t *testing.T) {
	for text, want := range map[string]bool{
		"seen in a log, at 9 o'clock": true, "Zoë 👩\u200d💻 مرحبا": true, "": true,
		"a\nb": false, "a\x1b[2Kb": false, "a\u202eb": false, "a\u2066b": false, "a\u200bb": false, "\ufeffa": false, "a\u2028b": false, "a\u0085b": false, "a\u00adb": false,
	} {
		if got := rotation.OneLine(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
