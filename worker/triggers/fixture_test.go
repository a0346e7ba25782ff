package triggers_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
)

// leakedKey is the key that somebody found. It must not turn up anywhere.
const leakedKey = "sk-proj-THISxISxAxLEAKEDxKEYx0123456789abcdef"

const hookSecret, githubSecret = "the secret of the webhook", "the secret that GitHub has"

const rekeyYAML = `install: abc123
providers:
  openai: {type: openai}
stores:
  gsm: {type: google-secret-manager, project: acme-prod}
keys:
  - {name: openai-prod, provider: openai, account: proj_1, stores: [{store: gsm, path: openai-prod}]}
  - {name: openai-ci, provider: openai, account: proj_2, stores: [{store: gsm, path: openai-ci}]}
  - {name: payments, provider: openai, account: proj_3, stores: [{store: gsm, path: payments}]}
triggers:
  listen: 127.0.0.1:0
  host: rekey.example.com
  sources:
    ci: {type: hmac, secret_file: ci.secret, keys: ["openai-*"]}
    github:
      type: github-secret-scanning
      secret_file: github.secret
      secret_types: {openai_api_key: ["openai-*"]}
    google:
      type: google-secret-rotate
      audience: https://rekey.example.com/triggers/google
      service_account: push@acme-prod.iam.gserviceaccount.com
      store: gsm
      project_number: "123456789"
`

// fixture is a listener on loopback, with what it was asked to start.
type fixture struct {
	*testing.T
	url    string
	google *google
	clock  time.Time

	logs testlog.Buffer

	mu      sync.Mutex
	started []workflows.TriggerInput
	ids     map[string]bool
	away    bool
}

func newFixture(t *testing.T, edit ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"ci.secret": hookSecret + "\n", "github.secret": githubSecret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(filepath.Join(dir, "rekey.yaml"), []byte(strings.NewReplacer(edit...).Replace(rekeyYAML)))
	if err != nil {
		t.Fatal(err)
	}
	r := &fixture{T: t, google: newGoogle(t), clock: time.Now().Truncate(time.Second), ids: map[string]bool{}}
	l, err := triggers.Listen(triggers.Options{
		Config: *cfg.Triggers, Keys: cfg.Keys, Start: r.start, Fingerprints: func(v secret.Value) []string { return []string{v.Fingerprint()} },
		Log: slog.New(slog.NewJSONHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: r.now, Transport: r.google,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if strings.Contains(r.logs.String(), leakedKey) || strings.Contains(r.logs.String(), hookSecret) || strings.Contains(r.logs.String(), "BODYMARK") {
			t.Errorf("the log holds a secret or a body:\n%s", r.logs.String())
		}
	})
	r.url = "http://" + l.Addr().String()
	return r
}

// now is the listener's clock, which a test moves with pass.
func (r *fixture) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *fixture) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// start takes each id once, as Temporal does.
func (r *fixture) start(_ context.Context, in workflows.TriggerInput) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return false, errors.New("nobody answers")
	}
	id := workflows.TriggerID(in.Source, in.Delivery)
	if r.ids[id] {
		return false, nil
	}
	r.ids[id], r.started = true, append(r.started, in)
	return true, nil
}

// call is a request that a test changes before it is sent.
type call struct {
	method, path, host, body string
	header                   http.Header
}

func (r *fixture) send(c call) (status int, answer map[string]string) {
	r.Helper()
	req, err := http.NewRequest(c.method, r.url+c.path, strings.NewReader(c.body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header, req.Host = c.header, c.host
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		r.Errorf("the answer is no JSON: %q", text)
	}
	if bytes.Contains(text, []byte("BODYMARK")) || bytes.Contains(text, []byte(leakedKey)) {
		r.Errorf("the answer repeats the body: %s", text)
	}
	return resp.StatusCode, answer
}

func sign(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func post(source, body string) call {
	return call{method: http.MethodPost, path: "/triggers/" + source, host: "rekey.example.com", body: body, header: http.Header{"Content-Type": {"application/json"}}}
}

// hook is a good delivery of a webhook of one's own.
func (r *fixture) hook(id, body string) call {
	c := post("ci", body)
	c.header.Set("X-Rekey-Delivery", id)
	return r.signed(c, r.clock)
}

func (r *fixture) signed(c call, at time.Time) call {
	ts := strconv.FormatInt(at.Unix(), 10)
	c.header.Set("X-Rekey-Timestamp", ts)
	c.header.Set("X-Rekey-Signature", sign(hookSecret, ts+"."+c.header.Get("X-Rekey-Delivery")+"."+c.body))
	return c
}

// alert is a good delivery of GitHub.
func (r *fixture) alert(id, body string) call {
	c := post("github", body)
	c.header.Set("X-GitHub-Delivery", id)
	c.header.Set("X-GitHub-Event", "secret_scanning_alert")
	c.header.Set("X-Hub-Signature-256", sign(githubSecret, body))
	return c
}

func alertBody(action, more string) string {
	return fmt.Sprintf(`{"action":%q,"alert":{"number":7,"html_url":"https://github.com/acme/app/security/secret-scanning/7","secret_type":"openai_api_key","validity":"active"%s},"repository":{"full_name":"acme/app"},"sender":{"login":"octocat"}}`, action, more)
}

// push is a good delivery of Pub/Sub.
func (r *fixture) push(id, event, name string) call {
	c := post("google", fmt.Sprintf(`{"message":{"attributes":{"eventType":%q,"secretId":%q,"dataFormat":"JSON_API_V1"},"data":"e30=","messageId":%q,"publishTime":"2026-11-23T00:00:00Z"},"subscription":"projects/acme-prod/subscriptions/rekey"}`, event, name, id))
	c.header.Set("Authorization", "Bearer "+r.google.token(r.T, nil))
	return c
}

const secretName = "projects/123456789/secrets/openai-prod"

// google signs tokens, and serves the certificates to check them by, as www.googleapis.com does.
type google struct {
	key    *rsa.PrivateKey
	server *httptest.Server
	mu     sync.Mutex
	away   bool
}

// googleKey is made once: it takes a tenth of a second.
var googleKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newGoogle(t *testing.T) *google {
	t.Helper()
	key, err := googleKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &google{key: key}
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.away || q.URL.Path != "/oauth2/v3/certs" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(g.server.Close)
	return g
}

// RoundTrip leads what is meant for Google to loopback.
func (g *google) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "www.googleapis.com" {
		return nil, fmt.Errorf("%s is not where certificates are", r.URL.Host)
	}
	to, err := url.Parse(g.server.URL)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
	return http.DefaultTransport.RoundTrip(r)
}

// claims are what a token of the right subscription says; change edits them.
func (g *google) token(t *testing.T, change func(map[string]any)) string {
	t.Helper()
	return signToken(t, jose.RS256, g.key, change)
}

func signToken(t *testing.T, alg jose.SignatureAlgorithm, key any, change func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{
		"aud": "https://rekey.example.com/triggers/google", "azp": "1", "sub": "1", "email": "push@acme-prod.iam.gserviceaccount.com", "email_verified": true,
		"iss": "https://accounts.google.com", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if change != nil {
		change(claims)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
