package triggers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// harmless fails if a refusal repeats what was refused.
func harmless(t *testing.T, no *refusal, body string) {
	t.Helper()
	if no.status < 400 || no.reason == "" {
		t.Errorf("the refusal is %+v", no)
	}
	if long := regexp.MustCompile(`[A-Za-z0-9]{24,}`).FindString(body); long != "" && strings.Contains(no.reason, long) {
		t.Errorf("the refusal %q repeats the body", no.reason)
	}
}

func FuzzAnOrderIsCompleteOrRefused(f *testing.F) {
	for _, seed := range []string{
		`{"key":"openai-prod"}`, `{"fingerprint":"0123456789ab","leaked":true,"why":"seen"}`, `{"key":"a","revokeFirst":true}`, `{"KEY":"a"}`, `{"key":"a"}{}`,
		`{"key":null,"fingerprint":"0123456789ab"}`, `{"key":"a","key":"b"}`, `[]`, `null`, ``, `{"why":"sk-abcdefghijklmnopqrstuvwxyz"}`, "{\"key\":\"a\",\"why\":\"\u0000\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		o, no := parseOrder([]byte(body))
		if no != nil {
			harmless(t, no, body)
			return
		}
		if (o.Key == "") == (o.Fingerprint == "") || o.Key != "" && !rotation.ValidKeyName(o.Key) || o.Fingerprint != "" && !fingerprint.MatchString(o.Fingerprint) ||
			rotation.LooksLikeKey(o.Why) || strings.ContainsAny(o.Why, "\n\r\x00\u202e") {
			t.Errorf("taken: %+v", o)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Errorf("taken, and no object: %v", err)
		}
		for name := range fields {
			if !slices.ContainsFunc([]string{"key", "fingerprint", "leaked", "why"}, func(known string) bool { return known == name }) {
				t.Errorf("taken with the field %q", name)
			}
		}
	})
}

func FuzzAnAlertShowsNoValue(f *testing.F) {
	for _, seed := range []string{
		`{"action":"created","alert":{"number":7,"html_url":"https://github.com/a/b/1","secret_type":"openai_api_key","secret":"sk-abcdefghijklmnopqrstuvwxyz"},"repository":{"full_name":"a/b"}}`,
		`{"action":"created","alert":{"secret_type":"sk-abcdefghijklmnopqrstuvwxyz"}}`, `{"action":"publicly_leaked","alert":{"secret_type":"x","secret":null}}`,
		`{"action":"reopened","alert":{"secret_type":"x","number":1e9},"repository":{"full_name":"../.."}}`, `{"action":1}`, `{"alert":null}`, `null`, `[]`, ``,
	} {
		f.Add(seed)
	}
	s := &github{
		TriggerSource: config.TriggerSource{Name: "github", SecretTypes: map[string][]string{"x": {"*"}}},
		options:       Options{Keys: []rotation.Key{{Name: "ci"}}, Fingerprints: func(v secret.Value) []string { return []string{v.Fingerprint()} }},
	}
	f.Fuzz(func(t *testing.T, body string) {
		a, no := s.read(http.Header{"X-Github-Event": {"secret_scanning_alert"}}, []byte(body))
		if no != nil {
			harmless(t, no, body)
			return
		}
		if a.in == nil {
			return
		}
		if !a.in.Leaked || (len(a.in.Keys) == 0) == (len(a.in.Fingerprints) == 0) || rotation.LooksLikeKey(a.in.Why) {
			t.Errorf("it asks for %+v", a.in)
		}
		for _, f := range a.in.Fingerprints {
			if !fingerprint.MatchString(f) {
				t.Errorf("%q is not a fingerprint", f)
			}
		}
		parsed, _ := parseAlert([]byte(body))
		sent, err := json.Marshal(a.in)
		if err != nil {
			t.Fatal(err)
		}
		if v := parsed.Alert.Secret.Reveal(); len(v) > 12 && !strings.Contains(strings.ToLower(a.in.Why+"github.com"), strings.ToLower(v)) && strings.Contains(string(sent), v) {
			t.Errorf("the value is in %s", sent)
		}
	})
}

func FuzzAPushNamesASecretOrIsRefused(f *testing.F) {
	for _, seed := range []string{
		`{"message":{"attributes":{"eventType":"SECRET_ROTATE","secretId":"projects/1/secrets/ci"},"messageId":"1"}}`,
		`{"message":{"attributes":{"eventType":"SECRET_ROTATE","secretId":"projects/1/secrets/../ci"},"messageId":"a/b\n"}}`,
		`{"message":{"attributes":{"eventType":"SECRET_UPDATE"},"messageId":"1"}}`, `{"message":null}`, `{"message":{"attributes":[]}}`, `null`, ``,
	} {
		f.Add(seed)
	}
	s := &push{
		TriggerSource: config.TriggerSource{Name: "google", Store: "gsm", Project: "acme", ProjectNumber: "1"},
		options:       Options{Keys: []rotation.Key{{Name: "ci", Stores: []rotation.Location{{Store: "gsm", Path: "ci"}}}}},
	}
	f.Fuzz(func(t *testing.T, body string) {
		a, no := s.read(nil, []byte(body))
		if no != nil {
			harmless(t, no, body)
			return
		}
		if a.in == nil {
			return
		}
		if !slices.Equal(a.in.Keys, []string{"ci"}) || a.in.Leaked || safeID(a.in.Delivery) != a.in.Delivery {
			t.Errorf("it asks for %+v", a.in)
		}
	})
}

func FuzzAForgedTokenIsRefused(f *testing.F) {
	for _, seed := range []string{"a.b.c", "bnVsbA.bnVsbA.", "eyJhbGciOiJSUzI1NiJ9.bnVsbA.x", "eyJhbGciOiJSUzI1NiJ9.e30.x", "eyJhbGciOiJFUzI1NiJ9.e30.", "..", "", "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTl9.AAAA"} {
		f.Add(seed)
	}
	certificates := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write([]byte(`{"keys":[{"kid":"one","kty":"RSA","alg":"RS256","n":"AQAB","e":"AQAB"}]}`))
	}))
	f.Cleanup(certificates.Close)
	s := newPush(config.TriggerSource{Audience: "us", ServiceAccount: "a@b"}, Options{Transport: lead(certificates.URL)})
	f.Fuzz(func(t *testing.T, token string) {
		no := s.known(context.Background(), http.Header{"Authorization": {"Bearer " + token}})
		if no == nil || no.status != http.StatusUnauthorized {
			t.Errorf("the answer is %+v", no)
		}
	})
}

// lead leads requests to another server.
type lead string

func (l lead) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(string(l), "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func FuzzNobodyWithoutTheSecretGetsThrough(f *testing.F) {
	f.Add("1800000000", "d1", "sha256=00", `{"key":"ci"}`)
	f.Add("", "", "", "")
	f.Add("1.2", "a.b", "sha256=", "{}")
	h := &handler{Options: Options{Log: slog.New(slog.DiscardHandler), Now: time.Now, Start: func(_ context.Context, in workflows.TriggerInput) (bool, error) {
		panic("started")
	}}, flood: unlimited(), sources: map[string]*source{}}
	shared := secret.FromString("a secret that nobody has")
	h.sources["ci"] = &source{name: "ci", limit: unlimited(), sender: newSigned(config.TriggerSource{Name: "ci", Type: config.HMAC}, h.Options, shared)}
	h.sources["github"] = &source{name: "github", limit: unlimited(), sender: newSigned(config.TriggerSource{Name: "github", Type: config.GitHubSecretScanning}, h.Options, shared)}
	f.Fuzz(func(t *testing.T, timestamp, id, signature, body string) {
		for _, name := range []string{"ci", "github"} {
			r := httptest.NewRequest(http.MethodPost, "/triggers/"+name, strings.NewReader(body))
			r.Header = http.Header{headerTimestamp: {timestamp}, headerDelivery: {id}, headerSignature: {signature}, "X-Hub-Signature-256": {signature}, "X-Github-Event": {id}}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized && w.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("%s answers %d", name, w.Code)
			}
		}
	})
}

func unlimited() *rate.Limiter { return rate.NewLimiter(rate.Inf, 0) }
