package rotation

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// anyStamp makes a valid stamp of the generator's choice, with hyphens and look-alikes of ids in the key's name.
func anyStamp(r *rand.Rand) Stamp {
	pick := func(letters string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	const name = "abcxyz0189-"
	s := Stamp{Install: pick("abcxyz0189", InstallLength), Rotation: pick("abcxyz27", IDLength), Attempt: 1 + r.IntN(MaxAttempt)}
	switch r.IntN(3) {
	case 0:
		// A name that holds what looks like the end, or the whole, of another stamp.
		s.Key = Stamp{Install: "aaaaaa", Key: "k", Rotation: "aaaaaaaa", Attempt: 1}.String()[r.IntN(5):]
	default:
		s.Key = "k" + pick(name, r.IntN(MaxKeyName-1)) + "9"
	}
	return s
}

func TestAStampIsReadBackAsItWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		want := anyStamp(r)
		if !ValidKeyName(want.Key) {
			t.Fatalf("the generator made the bad key name %q", want.Key)
		}
		text := want.String()
		if len(text) > 64 {
			t.Fatalf("%q has %d characters", text, len(text))
		}
		if got, ok := ParseStamp(text); !ok || got != want {
			t.Fatalf("%q is read as %+v (%v), want %+v", text, got, ok, want)
		}
	}
}

func TestTheLongestKeyNameFillsAStampTo64Characters(t *testing.T) {
	s := Stamp{Install: "abc123", Key: strings.Repeat("k", MaxKeyName), Rotation: "abcdefgh", Attempt: MaxAttempt}
	if got := len(s.String()); got != 64 {
		t.Errorf("the longest stamp has %d characters, want 64", got)
	}
	if got, ok := ParseStamp(s.String()); !ok || got != s {
		t.Errorf("it is read as %+v, %v", got, ok)
	}
	if !ValidKeyName(s.Key) || ValidKeyName(s.Key+"k") {
		t.Error("the longest name is not where ValidKeyName draws the line")
	}
}

func TestWhatOnlyLooksLikeAStampIsSomebodyElses(t *testing.T) {
	const good = "rekey-abc123-openai-prod-abcdefgh-01"
	if _, ok := ParseStamp(good); !ok {
		t.Fatalf("%q is a stamp", good)
	}
	for sentence, text := range map[string]string{
		"nothing":                              "",
		"the prefix alone":                     "rekey-",
		"another prefix":                       "Rekey-abc123-openai-prod-abcdefgh-01",
		"something before it":                  "x" + good,
		"something after it":                   good + "x",
		"a line break after it":                good + "\n",
		"a person's key with our prefix":       "rekey-test",
		"no key name":                          "rekey-abc123-abcdefgh-01",
		"an empty key name":                    "rekey-abc123--abcdefgh-01",
		"a key name that ends with a hyphen":   "rekey-abc123-openai--abcdefgh-01",
		"capitals in the key name":             "rekey-abc123-OpenAI-abcdefgh-01",
		"an underscore in the key name":        "rekey-abc123-open_ai-abcdefgh-01",
		"a short install":                      "rekey-abc12-openai-abcdefgh-01",
		"a long install that is no key name":   "rekey-abc1234openai-abcdefgh-01",
		"capitals in the install":              "rekey-ABC123-openai-abcdefgh-01",
		"a short rotation":                     "rekey-abc123-openai-abcdefg-01",
		"a rotation with a digit of no base32": "rekey-abc123-openai-abcdefg1-01",
		"attempt 0":                            "rekey-abc123-openai-abcdefgh-00",
		"one digit of attempt":                 "rekey-abc123-openai-abcdefgh-1",
		"three digits of attempt":              "rekey-abc123-openai-abcdefgh-001",
		"a signed attempt":                     "rekey-abc123-openai-abcdefgh-+1",
		"no attempt":                           "rekey-abc123-openai-abcdefgh",
		"a key name that is too long":          "rekey-abc123-" + strings.Repeat("k", MaxKeyName+1) + "-abcdefgh-01",
	} {
		if s, ok := ParseStamp(text); ok {
			t.Errorf("%s: %q is taken for %+v", sentence, text, s)
		}
	}
}

func TestAKeyWhoseNameBeginsLikeAnothersIsNotTakenForIt(t *testing.T) {
	short := Stamp{Install: "abc123", Key: "openai", Rotation: "abcdefgh", Attempt: 1}
	long := Stamp{Install: "abc123", Key: "openai-prod", Rotation: "abcdefgh", Attempt: 1}
	got, ok := ParseStamp(long.String())
	if !ok || got.Key != "openai-prod" || got.SameRotation(short) {
		t.Errorf("%s is read as %+v", long, got)
	}
}

func TestStampsOfOneRotationDifferInTheAttemptOnly(t *testing.T) {
	s := Stamp{Install: "abc123", Key: "openai", Rotation: "abcdefgh", Attempt: 1}
	second := s
	second.Attempt = 2
	if !s.SameRotation(second) || s.String() == second.String() {
		t.Error("two attempts of a rotation are not told apart, or not taken together")
	}
	for sentence, other := range map[string]Stamp{
		"another install":  {Install: "abc124", Key: "openai", Rotation: "abcdefgh", Attempt: 1},
		"another key":      {Install: "abc123", Key: "openai2", Rotation: "abcdefgh", Attempt: 1},
		"another rotation": {Install: "abc123", Key: "openai", Rotation: "abcdefga", Attempt: 1},
	} {
		if s.SameRotation(other) {
			t.Errorf("%s is taken for the same rotation", sentence)
		}
	}
}

func TestARotationIDIsStableAndFitsAStamp(t *testing.T) {
	// As of the first release: an id that changes would orphan the keys of the rotations under way.
	const run, want = "0193f6a0-7c5e-7d3a-9a57-0c4d1f2e3b4a", "twq3dbeg"
	if got := ID(run); got != want {
		t.Errorf("ID(%q) = %q, want %q", run, got, want)
	}
	seen := map[string]string{}
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		first := strings.Repeat("r", r.IntN(40)) + string(rune('a'+r.IntN(26))) + anyStamp(r).String()
		id := ID(first)
		s := Stamp{Install: "abc123", Key: "k", Rotation: id, Attempt: 1}
		if got, ok := ParseStamp(s.String()); len(id) != IDLength || !ok || got != s {
			t.Fatalf("the id %q of %q does not fit a stamp", id, first)
		}
		if other, taken := seen[id]; taken && other != first {
			t.Fatalf("%q and %q have the same id", other, first)
		}
		seen[id] = first
	}
}

func TestNamesAreCheckedWhole(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "openai-prod": true, "a--b": true,
		"": false, "-a": false, "a-": false, "A": false, "a b": false, "a\n": false, "ä": false, "a/b": false, "a.b": false,
	} {
		if got := ValidKeyName(name); got != want {
			t.Errorf("ValidKeyName(%q) = %v", name, got)
		}
	}
	for id, want := range map[string]bool{"abc123": true, "abc12": false, "abc1234": false, "ABC123": false, "abc-12": false, "abc12\n": false} {
		if got := ValidInstall(id); got != want {
			t.Errorf("ValidInstall(%q) = %v", id, got)
		}
	}
}

func FuzzParseStamp(f *testing.F) {
	f.Add("rekey-abc123-openai-prod-abcdefgh-01")
	f.Add("rekey-abc123--abcdefgh-01")
	f.Add("rekey-")
	f.Add("")
	f.Add("-------------------------------")
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := ParseStamp(text)
		if ok && (s.String() != text || !ValidInstall(s.Install) || !ValidKeyName(s.Key) || s.Attempt < 1 || s.Attempt > MaxAttempt) {
			t.Errorf("%q is read as %+v", text, s)
		}
	})
}
