package secretsearch

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/secret"
)

func TestASecretIsFoundInEveryFormThatItCanHave(t *testing.T) {
	// With the characters that encoders treat specially.
	key := "sk-proj-" + rand.Text() + "+/_=-" + rand.Text() + rand.Text() + "+/" + rand.Text()
	v := secret.FromString(key)
	s := New(secret.FromString("sk-proj-"+rand.Text()+rand.Text()), v)
	asJSON, err := json.Marshal(map[string]string{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"as it is":                          "the key " + key + " was refused",
		"cut at its end":                    fmt.Sprintf("%.60s…", key),
		"cut at its beginning":              key[30:],
		"in hex":                            hex.EncodeToString([]byte("x" + key)),
		"in upper-case hex":                 strings.ToUpper(hex.EncodeToString([]byte(key))),
		"in base64":                         base64.StdEncoding.EncodeToString([]byte(key)),
		"in base64, behind one character":   base64.StdEncoding.EncodeToString([]byte("x" + key)),
		"in base64, behind two characters":  base64.StdEncoding.EncodeToString([]byte("xx" + key)),
		"in base64 for URLs, as a payload":  base64.RawURLEncoding.EncodeToString(asJSON),
		"in a query":                        "?key=" + url.QueryEscape(key),
		"in a path":                         url.PathEscape(key),
		"in JSON":                           string(asJSON),
		"in JSON of those who escape a /":   strings.ReplaceAll(string(asJSON), "/", `\/`),
		"shortened, as OpenAI's errors do":  "Incorrect API key provided: " + key[:8] + strings.Repeat("*", len(key)-12) + key[len(key)-4:] + ".",
		"twelve characters of it":           "…" + key[13:25] + "…",
		"twelve of its characters in hex":   hex.EncodeToString([]byte(key[21:33])),
		"among binary":                      "\x00\xff" + key[8:40] + "\x00",
		"at the very end of a longer text":  strings.Repeat("sk-proj-", 1000) + key[len(key)-24:],
		"in a Go string with escaped quote": fmt.Sprintf("%q", `"`+key+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.In([]byte(text)); len(got) != 1 || got[0] != v.Fingerprint() {
				t.Errorf("found %v, want %s", got, v.Fingerprint())
			}
		})
	}
}

func TestTheLinesOfAPrivateKeyAreFound(t *testing.T) {
	line := rand.Text() + rand.Text()
	v := secret.FromString(`{"private_key_id":"0123456789012345678901234567890123456789","private_key":"-----BEGIN PRIVATE KEY-----\n` + line + `\n-----END PRIVATE KEY-----\n"}`)
	s := New(v)
	if got := s.In([]byte("x" + line + "x")); len(got) != 1 {
		t.Errorf("found %v", got)
	}
	if got := s.In([]byte("the key 0123456789012345678901234567890123456789 was disabled")); len(got) != 0 {
		t.Error("a key's id was taken for a secret")
	}
}

func TestWhatAllPrivateKeysBeginWithIsNoSecret(t *testing.T) {
	begin := "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDQIIAKDl+8jjHw\n"
	key := secret.FromString(begin + rand.Text() + rand.Text())
	if got := New(key).In([]byte(begin)); len(got) != 0 {
		t.Error("the form of a key was taken for a secret")
	}
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	v := secret.FromString("sk-proj-" + rand.Text() + rand.Text())
	if !Searches(v) || Searches(secret.FromString("short")) {
		t.Error("Searches does not tell what is searched for")
	}
	for _, text := range []string{"", "sk-", "sk-proj-", "secret(" + v.Fingerprint() + ")", "sk-proj-" + rand.Text() + rand.Text()} {
		if got := New(v).In([]byte(text)); len(got) != 0 {
			t.Errorf("found %v in %q", got, text)
		}
	}
}
