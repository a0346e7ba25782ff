package webhook_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/notify/notifytest"
	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

const shared = "0123456789abcdef0123456789abcdef"

// file writes a secret into a file of its own.
func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// post is a cloud with a receiver, and a channel of each type to it.
type post struct {
	*simcloud.Receiver
	cloud          *simcloud.Cloud
	slack, webhook *webhook.Channel
}

func newPost(t *testing.T) *post {
	t.Helper()
	p := &post{cloud: simcloud.New(nil)}
	var err error
	if p.Receiver, err = p.cloud.StartReceiver(shared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	p.slack = webhook.New(webhook.Options{Name: "team", Type: webhook.Slack, Address: webhook.Source{File: file(t, p.SlackURL+"\n", 0o600)}})
	p.webhook = webhook.New(webhook.Options{Name: "oncall", Type: webhook.Webhook, URL: p.WebhookURL, Secret: webhook.Source{File: file(t, shared+"\n", 0o600)}})
	return p
}

func notification() rotation.Notification {
	return rotation.Notification{
		ID: "aipm4sev-awaiting-key-1", Event: rotation.EventNeeded, At: time.Now(), Key: "openai-prod", Provider: "openai", Tier: rotation.Production,
		Rotation: "aipm4sev", Reason: rotation.Scheduled, Phase: rotation.AwaitingKey, Message: "Make a new key <now> & give it to <!channel>.",
		Deadline: time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC), Otherwise: "Then the rotation rolls back.", Command: "rekey supply openai-prod",
		Notified: []string{"team"}, Link: "https://temporal.example.com/namespaces/default/workflows/rotate%2Fopenai-prod",
	}.Clean()
}

func TestSlackGetsTheTextAndNothingThatItWouldTakeForACommand(t *testing.T) {
	p := newPost(t)
	if err := p.slack.Notify(context.Background(), notification()); err != nil {
		t.Fatal(err)
	}
	got := p.Messages()
	if len(got) != 1 || !strings.Contains(got[0].Text, "Make a new key &lt;now&gt; &amp; give it to &lt;!channel&gt;.") || !strings.Contains(got[0].Text, "rekey supply openai-prod") {
		t.Errorf("got %+v", got)
	}
}

func TestAWebhookIsSignedAndSaysEverything(t *testing.T) {
	p := newPost(t)
	for range 2 {
		if err := p.webhook.Notify(context.Background(), notification()); err != nil {
			t.Fatal(err)
		}
	}
	got := p.Messages()
	if len(got) != 2 || got[0].Again || !got[1].Again {
		t.Fatalf("the same notification twice: %+v", got)
	}
	for field, want := range map[string]any{
		"key": "openai-prod", "provider": "openai", "tier": "production", "rotation": "aipm4sev", "phase": "awaiting-key", "reason": "scheduled",
		"event": "needed", "deadline": "2026-11-30T09:00:00Z", "link": notification().Link,
	} {
		if got[0].Fields[field] != want {
			t.Errorf("%s is %v, want %v", field, got[0].Fields[field], want)
		}
	}
}

// TestConformance holds both formats to the contract of a channel.
func TestConformance(t *testing.T) {
	for format, service := range map[string]string{webhook.Slack: simcloud.SlackService, webhook.Webhook: simcloud.WebhookService} {
		t.Run(format, func(t *testing.T) {
			notifytest.Run(t, func(t *testing.T) notifytest.Harness {
				cloud := simcloud.New(nil)
				r, err := cloud.StartReceiver(shared)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(r.Stop)
				newAt := func(t *testing.T, url string) notify.Channel {
					o := webhook.Options{Name: "team", Type: format, RequestTimeout: time.Second}
					if format == webhook.Slack {
						o.Address = webhook.Source{File: file(t, url+"\n", 0o600)}
					} else {
						o.URL, o.Secret = url, webhook.Source{File: file(t, shared+"\n", 0o600)}
					}
					return webhook.New(o)
				}
				address := map[string]string{webhook.Slack: r.SlackURL, webhook.Webhook: r.WebhookURL}[format]
				return notifytest.Harness{
					Channel: newAt(t, address), NewAt: newAt, Within: time.Second, Cloud: cloud, Service: service, Messages: r.Messages,
					HasID: format == webhook.Webhook, Stop: r.Stop,
					Secrets: []string{shared, address, simcloud.SlackPath, "/hooks/", "127.0.0.1"},
				}
			})
		})
	}
}

func TestThatNobodyListensIsSaidBeforeAnythingIsSent(t *testing.T) {
	p := newPost(t)
	if err := p.slack.Connect(context.Background()); err != nil {
		t.Errorf("somebody listens: %v", err)
	}
	p.Stop()
	if err := p.slack.Connect(context.Background()); err == nil || strings.Contains(err.Error(), "services") {
		t.Errorf("Connect says %v", err)
	}
	if f := fault.Of(p.slack.Notify(context.Background(), notification())); f.Class != fault.Unavailable || f.Code != "connect" {
		t.Errorf("Notify says %v", f)
	}
}

func TestAPageThatAnswersEverythingIsNotSlack(t *testing.T) {
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in")) }))
	defer portal.Close()
	c := webhook.New(webhook.Options{Name: "team", Type: webhook.Slack, Address: webhook.Source{File: file(t, portal.URL+"/services/x", 0o600)}})
	if err := c.Notify(context.Background(), notification()); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestASecretThatCannotBeUsedIsSaidAndNothingIsSent(t *testing.T) {
	p := newPost(t)
	missing := filepath.Join(t.TempDir(), "none")
	t.Setenv("REKEY_TEST_URL", "http://hooks.example.com/services/T/B/X")
	for sentence, tc := range map[string]struct {
		o    webhook.Options
		want string
	}{
		"a file that is not there":          {webhook.Options{Type: webhook.Slack, Address: webhook.Source{File: missing}}, "there is no such file"},
		"a file that others can read":       {webhook.Options{Type: webhook.Slack, Address: webhook.Source{File: file(t, p.SlackURL, 0o644)}}, "chmod 600"},
		"an empty file":                     {webhook.Options{Type: webhook.Slack, Address: webhook.Source{File: file(t, "\n", 0o600)}}, "fewer than 16"},
		"an address without TLS":            {webhook.Options{Type: webhook.Slack, Address: webhook.Source{Env: "REKEY_TEST_URL"}}, "https://"},
		"an address with a password":        {webhook.Options{Type: webhook.Slack, Address: webhook.Source{File: file(t, "https://me:pw@hooks.example.com/x", 0o600)}}, "https://"},
		"a variable that is not set":        {webhook.Options{Type: webhook.Slack, Address: webhook.Source{Env: "REKEY_TEST_NONE"}}, "REKEY_TEST_NONE"},
		"a webhook with a guessable secret": {webhook.Options{Type: webhook.Webhook, URL: p.WebhookURL, Secret: webhook.Source{File: file(t, "hunter2", 0o600)}}, "fewer than 16"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := webhook.New(tc.o)
			err := c.Notify(context.Background(), notification())
			if !fault.Is(err, fault.AccessDenied) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "pw@") {
				t.Errorf("got %v", err)
			}
			if check := c.Check(); check == nil || !strings.Contains(check.Error(), tc.want) {
				t.Errorf("Check says %v", check)
			}
		})
	}
	if got := p.Messages(); len(got) != 0 {
		t.Errorf("sent all the same: %+v", got)
	}
}

func TestASecretIsReadAnewEachTime(t *testing.T) {
	p := newPost(t)
	name := file(t, "http://127.0.0.1:1/services/old/one", 0o600)
	c := webhook.New(webhook.Options{Name: "team", Type: webhook.Slack, Address: webhook.Source{File: name}})
	if err := c.Notify(context.Background(), notification()); err == nil {
		t.Fatal("nobody listens there")
	}
	if err := os.WriteFile(name, []byte(p.SlackURL), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Notify(context.Background(), notification()); err != nil {
		t.Error(err)
	}
}

func TestTheBodyIsThePageOfTheDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "notifications.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```json\n")
	example, _, closed := strings.Cut(rest, "```")
	var body map[string]any
	if err := json.Unmarshal([]byte(example), &body); err != nil || !found || !closed {
		t.Fatalf("docs/notifications.md has no JSON that can be read: %v", err)
	}
	n := notification()
	n.Note = "ana@example.com: asked Kim"
	own, err := json.Marshal(webhook.Body{Notification: n, Text: n.Text()})
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(own, &want); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if _, ok := body[name]; !ok {
			t.Errorf("the example lacks %s", name)
		}
	}
	for name := range body {
		if _, ok := want[name]; !ok {
			t.Errorf("the example has %s, which is never sent", name)
		}
	}
}
