package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

const sharedSecret, githubSecret = "shared by rekey and the scanner", "shared by rekey and GitHub"

const triggersYAML = `triggers:
  listen: 127.0.0.1:0
  sources:
    scanner: {type: hmac, secret_file: scanner.secret}
    github: {type: github-secret-scanning, secret_file: github.secret}
    google: {type: google-secret-rotate, audience: us, service_account: push@acme.iam.gserviceaccount.com, store: gsm, project_number: "42"}
`

// listener is the listener for webhooks beside the worker.
type listener struct {
	*env
	url string
	log testlog.Buffer
}

func (w *env) listen(google http.RoundTripper) *listener {
	w.Helper()
	for name, text := range map[string]string{"scanner.secret": sharedSecret, "github.secret": githubSecret} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(w.File), name), []byte(text), 0o600); err != nil {
			w.Fatal(err)
		}
	}
	cfg, err := config.Parse(w.File, []byte(w.YAML()+triggersYAML))
	if err != nil {
		w.Fatal(err)
	}
	acts, err := adapters.Open(context.Background(), cfg, nil)
	if err != nil {
		w.Fatal(err)
	}
	d := &listener{env: w}
	l, err := triggers.Listen(triggers.Options{
		Config: *cfg.Triggers, Keys: cfg.Keys, Fingerprints: acts.Fingerprints, Transport: google, Log: slog.New(slog.NewJSONHandler(&d.log, nil)),
		Start: func(ctx context.Context, in workflows.TriggerInput) (bool, error) {
			return client.New(w.Client).StartTrigger(ctx, in)
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = l.Stop(context.Background()) })
	d.url = "http://" + l.Addr().String() + "/triggers/"
	return d
}

// ring sends a delivery, and gives the status and the id of the workflow that does it. It may be called from any goroutine.
func (d *listener) ring(source string, header map[string]string, body string) (status int, id string) {
	req, err := http.NewRequest(http.MethodPost, d.url+source, strings.NewReader(body))
	if err != nil {
		d.Error(err)
		return 0, ""
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	var answer struct{ Delivery string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		d.Error(err)
	}
	return resp.StatusCode, workflows.TriggerID(source, answer.Delivery)
}

func (d *listener) scanner(delivery, body string) (int, string) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	return d.ring("scanner", map[string]string{
		"X-Rekey-Timestamp": now, "X-Rekey-Delivery": delivery, "X-Rekey-Signature": "sha256=" + sum(sharedSecret, now+"."+delivery+"."+body),
	}, body)
}

// github reports the value itself.
func (d *listener) github(action string) (int, string) {
	secret, err := json.Marshal(d.First(d.name).Reveal())
	if err != nil {
		d.Error(err)
	}
	body := fmt.Sprintf(`{"action":%q,"alert":{"number":1,"secret_type":"google_cloud_service_account_credentials","secret":%s},"repository":{"full_name":"acme/app"}}`, action, secret)
	return d.ring("github", map[string]string{"X-GitHub-Event": "secret_scanning_alert", "X-GitHub-Delivery": action, "X-Hub-Signature-256": "sha256=" + sum(githubSecret, body)}, body)
}

func sum(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// came is what came of a delivery.
func (d *listener) came(id string) workflows.Triggered {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out workflows.Triggered
	if err := client.New(d.Client).WaitRun(ctx, id, "", &out); err != nil {
		d.Fatalf("%s: %v", id, err)
	}
	h, err := replaytest.Check(ctx, d.Client, id, "")
	if err == nil && id == workflows.TriggerID("scanner", "d1") {
		err = replaytest.Keep(h, "trigger")
	}
	if err != nil {
		d.Error(err)
	}
	return out
}

// quiet checks that the listener's log has no part of the value that was reported.
func (d *listener) quiet() {
	d.Helper()
	log := d.log.String()
	if strings.Contains(log, "private_key") || strings.Contains(log, "BEGIN") || strings.Contains(log, sharedSecret) || !strings.Contains(log, `"msg":"a delivery is taken"`) {
		d.Errorf("the listener's log: %s", log)
	}
}

// runs are the runs of the key's rotation that Temporal lists, and it must list at least one.
func (w *env) runs() int {
	w.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		list, err := w.Client.ListWorkflow(context.Background(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = %q AND ExecutionStatus != 'Running'", w.id())})
		if err != nil {
			w.Fatal(err)
		}
		if n := len(list.GetExecutions()); n > 0 {
			return n
		}
	}
	w.Fatal("Temporal lists no rotation")
	return 0
}

func TestALeakThatIsReportedManyTimesInOneInstantIsOneRotation(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	w.rules.MayDie = append(w.rules.MayDie, w.oldID)
	d := w.listen(nil)
	order := fmt.Sprintf(`{"fingerprint":%q,"leaked":true,"why":"seen in a paste"}`, w.First(w.name).Fingerprint())
	reports := map[string]func() (int, string){
		"GitHub, created":         func() (int, string) { return d.github("created") },
		"GitHub, publicly leaked": func() (int, string) { return d.github("publicly_leaked") },
		"the scanner":             func() (int, string) { return d.scanner("d1", order) },
		"the scanner, later":      func() (int, string) { return d.scanner("d2", order) },
	}
	type reply struct {
		status int
		id     string
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	replies := map[string][]reply{}
	for name, report := range reports {
		for range 2 {
			all.Go(func() {
				status, id := report()
				mu.Lock()
				defer mu.Unlock()
				replies[name] = append(replies[name], reply{status, id})
			})
		}
	}
	all.Wait()
	for name, two := range replies {
		slices.SortFunc(two, func(a, b reply) int { return a.status - b.status })
		if two[0].status != http.StatusOK || two[1].status != http.StatusAccepted || two[0].id != two[1].id {
			t.Errorf("%s is answered %v", name, two)
		}
		d.came(two[1].id)
	}
	res := w.end(w.latest())
	w.replaced(res)
	if n := w.runs(); n != 1 || len(res.Revoked) != 1 || res.Reason != rotation.Emergency {
		t.Errorf("%d runs; %+v", n, res)
	}
	if made := w.Cloud.Journal(); count(made, simcloud.KeyCreated) != 2 {
		t.Errorf("%d keys were made, the first by hand", count(made, simcloud.KeyCreated))
	}
	// The value is gone: whoever reports it again starts nothing.
	status, id := d.scanner("d3", order)
	if out := d.came(id); status != http.StatusAccepted || len(out.Started) > 0 || !strings.HasPrefix(out.Why, "Nothing was started") || w.runs() != 1 {
		t.Errorf("the answer is %d, %+v", status, out)
	}
	d.quiet()
	w.noSecrets()
}

func count(journal []simcloud.Event, kind simcloud.EventKind) (n int) {
	for _, e := range journal {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestAWorkerKilledWhileItTakesUpALeakLosesNothing(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"Identify/before", "Identify/after", "StartRotation/before", "StartRotation/after"} {
		t.Run("killed at "+moment, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, scenario.Options{}, moment)
			w.rules.MayDie = append(w.rules.MayDie, w.oldID)
			d := w.listen(nil)
			status, id := d.github("created")
			if out := d.came(id); status != http.StatusAccepted || len(out.Started) != 1 {
				t.Errorf("the answer is %d, %+v", status, out)
			}
			res := w.end(w.latest())
			w.replaced(res)
			if made := count(w.Cloud.Journal(), simcloud.KeyCreated); made != 2 {
				t.Errorf("%d keys were made", made)
			}
			w.Killed()
			d.quiet()
		})
	}
}

func TestSecretManagersRotationTimeRotatesTheKeyOfThatSecret(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certificates := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	}))
	defer certificates.Close()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"aud": "us", "email": "push@acme.iam.gserviceaccount.com", "email_verified": true, "iss": "https://accounts.google.com", "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	w := newEnv(t, scenario.Options{})
	d := w.listen(lead(certificates.URL))
	notice := func(message, event string) (int, string) {
		return d.ring("google", map[string]string{"Authorization": "Bearer " + token}, fmt.Sprintf(`{"message":{"attributes":{"eventType":%q,"secretId":"projects/42/secrets/ci"},"messageId":%q}}`, event, message))
	}
	if status, _ := notice("1", "SECRET_UPDATE"); status != http.StatusOK {
		t.Errorf("an update is answered %d", status)
	}
	status, id := notice("2", "SECRET_ROTATE")
	if out := d.came(id); status != http.StatusAccepted || len(out.Started) != 1 || !out.Started[0].Started {
		t.Fatalf("the answer is %d, %+v", status, out)
	}
	res := w.end(w.latest())
	w.replaced(res)
	if status, _ := notice("2", "SECRET_ROTATE"); status != http.StatusOK || res.Reason != rotation.Manual || w.runs() != 1 {
		t.Errorf("the same message is answered %d; %+v", status, res)
	}
}

// lead leads requests to another server.
type lead string

func (l lead) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(string(l), "http://")
	return http.DefaultTransport.RoundTrip(r)
}
