package triggers_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
)

func TestADeliveryBecomesAWorkflowWithoutSecrets(t *testing.T) {
	within := []string{"openai-*"}
	for sentence, tc := range map[string]struct {
		call func(*fixture) call
		want workflows.TriggerInput
	}{
		"a key by name": {
			func(r *fixture) call { return r.hook("d1", `{"key":"openai-ci"}`) },
			workflows.TriggerInput{Source: "ci", Delivery: "d1", Keys: []string{"openai-ci"}, Within: within, Why: "asked by webhook ci"},
		},
		"a value that leaked": {
			func(r *fixture) call {
				return r.hook("d1", `{"fingerprint":"0123456789ab","leaked":true,"why":"seen in a log"}`)
			},
			workflows.TriggerInput{Source: "ci", Delivery: "d1", Fingerprints: []string{"0123456789ab"}, Within: within, Leaked: true, Why: "seen in a log"},
		},
		"an id that is too long for a workflow's": {
			func(r *fixture) call { return r.hook(strings.Repeat("a", 100), `{"key":"openai-ci"}`) },
			workflows.TriggerInput{Source: "ci", Delivery: "hash-2816597888e4a0d3a36b82b83316ab32", Keys: []string{"openai-ci"}, Within: within, Why: "asked by webhook ci"},
		},
		"an alert with the value": {
			func(r *fixture) call { return r.alert("g1", alertBody("created", `,"secret":"`+leakedKey+`"`)) },
			workflows.TriggerInput{Source: "github", Fingerprints: []string{secret.FromString(leakedKey).Fingerprint()}, Leaked: true, Why: "GitHub secret scanning, alert 7 of acme/app, type openai_api_key: created"},
		},
		"an alert with the type only": {
			func(r *fixture) call { return r.alert("g1", alertBody("publicly_leaked", "")) },
			workflows.TriggerInput{Source: "github", Keys: []string{"openai-prod", "openai-ci"}, Leaked: true, Leak: "github-alert/5aab06c4a7a5ed9bd3dd6dcb7e5ea2dc", Why: "GitHub secret scanning, alert 7 of acme/app, type openai_api_key: publicly_leaked"},
		},
		"an alert that is opened again is another leak": {
			func(r *fixture) call { return r.alert("g1", alertBody("reopened", "")) },
			workflows.TriggerInput{Source: "github", Keys: []string{"openai-prod", "openai-ci"}, Leaked: true, Why: "GitHub secret scanning, alert 7 of acme/app, type openai_api_key: reopened"},
		},
		"a rotation time of Secret Manager": {
			func(r *fixture) call { return r.push("98", "SECRET_ROTATE", secretName) },
			workflows.TriggerInput{Source: "google", Delivery: "98", Keys: []string{"openai-prod"}, Why: "Secret Manager: rotation time of " + secretName},
		},
		"a secret named by its project's id": {
			func(r *fixture) call { return r.push("98", "SECRET_ROTATE", "projects/acme-prod/secrets/payments") },
			workflows.TriggerInput{Source: "google", Delivery: "98", Keys: []string{"payments"}, Why: "Secret Manager: rotation time of projects/acme-prod/secrets/payments"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			status, answer := r.send(tc.call(r))
			if status != http.StatusAccepted || answer["status"] != "taken" || len(r.started) != 1 {
				t.Fatalf("the answer is %d %v, started %v", status, answer, r.started)
			}
			ignore := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(workflows.TriggerInput{})}
			if tc.want.Source == "github" {
				// A hash of the body.
				if len(r.started[0].Delivery) != 32 {
					t.Errorf("the delivery is %q", r.started[0].Delivery)
				}
				ignore = append(ignore, cmpopts.IgnoreFields(workflows.TriggerInput{}, "Delivery", "Leak"))
				if (r.started[0].Leak == "") != (tc.want.Leak == "") {
					t.Errorf("the leak is %q", r.started[0].Leak)
				}
			}
			if diff := cmp.Diff(tc.want, r.started[0], ignore); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestADeliveryThatIsRepeatedIsTakenOnce(t *testing.T) {
	for sentence, again := range map[string]func(*fixture) [2]call{
		"by a webhook, with another body": func(r *fixture) [2]call {
			return [2]call{r.hook("d1", `{"key":"openai-ci"}`), r.hook("d1", `{"key":"openai-prod"}`)}
		},
		"by GitHub": func(r *fixture) [2]call {
			return [2]call{r.alert("g1", alertBody("created", "")), r.alert("g1", alertBody("created", ""))}
		},
		"under an id that somebody made up": func(r *fixture) [2]call {
			return [2]call{r.alert("g1", alertBody("created", "")), r.alert("g2", alertBody("created", ""))}
		},
		"by Pub/Sub": func(r *fixture) [2]call {
			return [2]call{r.push("1", "SECRET_ROTATE", secretName), r.push("1", "SECRET_ROTATE", secretName)}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			calls := again(r)
			first, _ := r.send(calls[0])
			second, answer := r.send(calls[1])
			if first != http.StatusAccepted || second != http.StatusOK || answer["status"] != "already taken" || len(r.started) != 1 {
				t.Errorf("the answers are %d, %d %v; started %v", first, second, answer, r.started)
			}
		})
	}
}

func TestWhatAsksForNothingIsAcknowledged(t *testing.T) {
	for sentence, tc := range map[string]func(*fixture) call{
		"GitHub's ping": func(r *fixture) call {
			c := r.alert("g1", `{"zen":"BODYMARK"}`)
			c.header.Set("X-GitHub-Event", "ping")
			return c
		},
		"another event of GitHub": func(r *fixture) call {
			c := r.alert("g1", `{"ref":"BODYMARK"}`)
			c.header.Set("X-GitHub-Event", "push")
			return c
		},
		"an alert that is resolved":  func(r *fixture) call { return r.alert("g1", alertBody("resolved", `,"secret":"`+leakedKey+`"`)) },
		"an alert that is validated": func(r *fixture) call { return r.alert("g1", alertBody("validated", "")) },
		"a value that GitHub saw refused": func(r *fixture) call {
			return r.alert("g1", strings.Replace(alertBody("created", ""), `"active"`, `"inactive"`, 1))
		},
		"a version that rekey itself made": func(r *fixture) call { return r.push("1", "SECRET_VERSION_ADD", secretName) },
		"a topic that is set up":           func(r *fixture) call { return r.push("1", "TOPIC_CONFIGURED", "") },
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			if status, answer := r.send(tc(r)); status != http.StatusOK || answer["status"] != "nothing to do" || len(r.started) > 0 {
				t.Errorf("the answer is %d %v, started %v", status, answer, r.started)
			}
		})
	}
}

func TestASenderIsAskedToComeAgainWhileTemporalIsAway(t *testing.T) {
	for sentence, c := range map[string]func(*fixture) call{
		"a webhook": func(r *fixture) call { return r.hook("d1", goodOrder) },
		"GitHub":    func(r *fixture) call { return r.alert("g1", alertBody("created", "")) },
		"Pub/Sub":   func(r *fixture) call { return r.push("1", "SECRET_ROTATE", secretName) },
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			r.away = true
			if status, answer := r.send(c(r)); status != http.StatusServiceUnavailable || answer["status"] != "not taken" {
				t.Errorf("the answer is %d %v", status, answer)
			}
			r.away = false
			if status, answer := r.send(c(r)); status != http.StatusAccepted || len(r.started) != 1 {
				t.Errorf("the answer is %d %v", status, answer)
			}
		})
	}
}

func TestASourceThatSendsTooMuchIsTurnedAway(t *testing.T) {
	r := newFixture(t, "host: rekey.example.com", "rate: 1/h")
	var taken, refused int
	for range 60 {
		c := r.hook("d1", goodOrder)
		switch status, answer := r.send(c); status {
		case http.StatusAccepted, http.StatusOK:
			taken++
		case http.StatusTooManyRequests:
			if refused++; answer["status"] != "refused" {
				t.Errorf("the answer is %v", answer)
			}
		default:
			t.Fatalf("the answer is %d %v", status, answer)
		}
	}
	if taken != 50 || refused != 10 {
		t.Errorf("%d taken, %d refused", taken, refused)
	}
	// The others are not held up.
	if status, _ := r.send(r.alert("g1", alertBody("created", ""))); status != http.StatusAccepted {
		t.Errorf("GitHub is answered %d", status)
	}
}

func TestASecretThatOthersCouldKnowIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"a file that others can read":   {hookSecret, 0o640, "ci.secret: triggers.sources.ci.secret_file: others than its owner can use it"},
		"a secret that can be guessed":  {"hunter2\n", 0o600, "fewer than 16 characters"},
		"a file that is far too long":   {strings.Repeat("x", 5000), 0o600, "longer than 4 KiB"},
		"a file that is not there":      {"", 0, "there is no such file"},
		"the same secret for two":       {githubSecret, 0o600, "the sources ci and github have the same secret"},
		"the same with another newline": {githubSecret + "\r\n", 0o600, "the sources ci and github have the same secret"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "github.secret"), []byte(githubSecret), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.mode != 0 {
				if err := os.WriteFile(filepath.Join(dir, "ci.secret"), []byte(tc.text), tc.mode); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := config.Parse(filepath.Join(dir, "rekey.yaml"), []byte(rekeyYAML))
			if err != nil {
				t.Fatal(err)
			}
			l, err := triggers.Listen(triggers.Options{Config: *cfg.Triggers})
			if l != nil {
				_ = l.Stop(context.Background())
			}
			var problems config.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
