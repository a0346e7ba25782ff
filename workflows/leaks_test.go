package workflows_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

func TestAKeyInASignalGoesNoFurtherAndCountsAsLeaked(t *testing.T) {
	t.Parallel()
	for where, input := range map[string]string{
		"as the text":               `"%s"`,
		"as the name":               `{"by": "%s"}`,
		"in the reason":             `{"by": "o", "why": "the new key is %s."}`,
		"as the version":            `{"by": "o", "version": "%s"}`,
		"as the length of time":     `{"by": "o", "for": "%s"}`,
		"among what leaked":         `{"by": "o", "why": "w", "leaked": ["%s"]}`,
		"in a field that is none":   `{"by": "o", "key": "%s"}`,
		"as the name of a field":    `{"%s": 1}`,
		"deep in a list":            `[{"a": [{"b": " \"%s\"\n"}]}]`,
		"in what is no JSON at all": `key = %s`,
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			for _, kind := range rotation.DecisionKinds() {
				l := listening(t, kind)
				_, v := l.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "pasted")
				l.after(l.at, func() { l.send(kind, json.RawMessage(strings.ReplaceAll(input, "%s", v.Reveal()))) })
				kept, all := l.end()
				if n := count(kept, kind); n != 0 {
					t.Errorf("%s was taken: %+v", kind, kept)
				}
				search := secretsearch.New(v)
				if len(search.In(all)) > 0 || len(search.In([]byte(l.details))) > 0 {
					t.Errorf("%s: the key goes on in what the rotation keeps", kind)
				}
				if !bytes.Contains(all, []byte(v.Fingerprint())) {
					t.Errorf("%s: the rotation does not remember the fingerprint", kind)
				}
				for _, want := range []string{"A key is in this history", v.Fingerprint(), "temporal workflow delete --workflow-id rotate/gpt", "Revoke it"} {
					if !strings.Contains(l.details, want) {
						t.Errorf("%s: the details do not say %q:\n%s", kind, want, l.details)
					}
				}
			}
		})
	}
}

func TestAKeyThatWasSentInAMessageIsNotUsed(t *testing.T) {
	t.Parallel()
	paste := func(r *fixture, v secret.Value) { r.env.SignalWorkflow(string(rotation.KeySupplied), v.Reveal()) }
	t.Run("supplied after it was pasted, it is refused, and another is taken", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.after(time.Hour, func() {
			_, v := r.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "pasted")
			paste(r, v)
			n, err := r.SM.AddVersion("gpt", v)
			if err != nil {
				t.Error(err)
			}
			r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: itoa(n)})
		})
		r.after(2*time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, "it counts as leaked. Delete it and make another") {
				t.Errorf("phase %s\n%s", s.Phase, s.Details)
			}
			r.supply()
		})
		r.after(5*day, func() {
			if d := r.status().Details; !strings.Contains(d, "A key is in this history") {
				t.Errorf("days later the details do not say how to purge:\n%s", d)
			}
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		res := r.run()
		r.replaced(res)
		if left := strings.Join(res.FollowUps, "\n"); !strings.Contains(left, "temporal workflow delete") || !strings.Contains(left, "counts as leaked") {
			t.Errorf("left: %v", res.FollowUps)
		}
	})
	t.Run("pasted when applications read it, another rotation replaces it at once", func(t *testing.T) {
		r := newFixture(t, manualKey())
		var id string
		var v secret.Value
		r.after(time.Hour, func() {
			id, v = r.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "new")
			n, err := r.SM.AddVersion("gpt", v)
			if err != nil {
				t.Error(err)
			}
			r.signal(rotation.KeySupplied, rotation.DecisionMessage{Version: itoa(n)})
		})
		r.after(10*time.Hour, func() { paste(r, v) })
		r.env.ExecuteWorkflow(workflows.RotateKey, r.in)
		var again *workflow.ContinueAsNewError
		if !errors.As(r.env.GetWorkflowError(), &again) {
			t.Fatalf("no rotation follows: %v", r.env.GetWorkflowError())
		}
		if in := string(again.Input.GetPayloads()[0].GetData()); strings.Contains(in, v.Reveal()) || !strings.Contains(in, v.Fingerprint()) {
			t.Errorf("the next rotation begins with %s", in)
		}
		r.takeUp(again)
		r.rules.MayDie = []string{id, r.oldID}
		r.after(time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey || s.Reason != rotation.Emergency {
				t.Errorf("phase %s, reason %s\n%s", s.Phase, s.Reason, s.Details)
			}
			r.supply()
		})
		r.after(2*time.Hour, func() {
			_, _ = r.OpenAI.DeleteKey(id), r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		res := r.run()
		r.allGone(rotation.Result{Phase: res.Phase}, []string{id, r.oldID})
	})
	t.Run("pasted while it is checked, it is not published", func(t *testing.T) {
		r := newFixture(t, manualKey())
		var v secret.Value
		r.after(time.Hour, func() {
			_, v = r.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "new")
			n, err := r.SM.AddVersion("gpt", v)
			if err != nil {
				t.Error(err)
			}
			r.signal(rotation.KeySupplied, rotation.DecisionMessage{Version: itoa(n)})
		})
		r.whenStarted("Verify", func() { paste(r, v) })
		res := r.run()
		r.unchanged(res)
		if !strings.Contains(res.Outcome, "was sent in a signal, so it counts as leaked") {
			t.Errorf("outcome %q", res.Outcome)
		}
	})
}

// exposed is a key that is in an input.
const exposed = "sk-proj-0123456789_abcdefghij-ABCDEFGHIJ"

func TestAnInputWithAKeyInItIsRefusedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	fingerprint := secret.FromString(exposed).Fingerprint()
	for what, c := range map[string]struct{ workflow, input string }{
		"a rotation, in its reason":                    {"RotateKey", `{"key":{"name":"gpt"},"reason":"manual","why":"the key is %s."}`},
		"a rotation, in who asks":                      {"RotateKey", `{"key":{"name":"gpt"},"by":"%s"}`},
		"a rotation, in the account":                   {"RotateKey", `{"key":{"name":"gpt","account":"%s"}}`},
		"a rotation, in an emergency":                  {"RotateKey", `{"key":{"name":"gpt"},"reason":"emergency","emergencies":[{"leaked":["%s"]}]}`},
		"a rotation, in a made-up state":               {"RotateKey", `{"key":{"name":"gpt"},"resume":{"progress":{"note":"%s"}}}`},
		"a rotation, in a field of no input":           {"RotateKey", `{"key":{"name":"gpt"},"value":"%s"}`},
		"a rotation, in a length of time":              {"RotateKey", `{"key":{"name":"gpt","policy":{"grace":"%s"}}}`},
		"a rotation, in place of the input":            {"RotateKey", `"%s"`},
		"a rotation, with escapes":                     {"RotateKey", `{"why":"\u0073` + exposed[1:] + `"}`},
		"a dispatcher, in its installation":            {"Dispatch", `{"install":"%s"}`},
		"an emergency, among the keys":                 {"Emergency", `{"id":"e","keys":["%s"],"message":{"by":"o","why":"w"}}`},
		"a trigger, in the delivery":                   {"Trigger", `{"source":"ci","delivery":"%s"}`},
		"what notifies of an end, in its notification": {"Notify", `{"notification":{"message":"%s"}}`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, manualKey())
			workflows.RegisterLaunch(r.env)
			var in json.RawMessage = []byte(strings.ReplaceAll(c.input, "%s", exposed))
			r.env.ExecuteWorkflow(c.workflow, in)
			err := r.env.GetWorkflowError()
			if err == nil || len(r.started) > 0 {
				t.Fatalf("it was taken; activities: %v", r.started)
			}
			for _, want := range []string{"fingerprint " + fingerprint, "counts as leaked", "temporal workflow delete --workflow-id", "rekey emergency KEY --leaked " + fingerprint} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the failure does not say %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), exposed) {
				t.Errorf("the failure repeats the key: %v", err)
			}
		})
	}
}

func TestAnInputThatIsTooLongToBeSearchedIsRefused(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.in.Why = strings.Repeat("because ", 40_000)
	r.env.ExecuteWorkflow(workflows.RotateKey, r.in)
	if err := r.env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "has at most 262144") || len(r.started) > 0 {
		t.Errorf("%v, activities %v", err, r.started)
	}
}

func TestAnInputWithoutAKeyThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	var in workflows.Input
	if err := json.Unmarshal([]byte(`{"key": 7}`), &in); err == nil {
		t.Error("it was read")
	}
}

func TestAKeyInASignalThatNoMessageHasTheNameOfCountsAsLeaked(t *testing.T) {
	t.Parallel()
	fingerprint := secret.FromString(exposed).Fingerprint()
	for what, c := range map[string]struct {
		name string
		sent any
	}{
		"as the text":               {"new-key", exposed},
		"in a field":                {"aprove", map[string]string{"why": exposed}},
		"as the name of the signal": {exposed, nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, manualKey())
			r.after(time.Hour, func() { r.env.SignalWorkflow(c.name, c.sent) })
			r.after(2*time.Hour, func() {
				d := r.status().Details
				for _, want := range []string{"A key is in this history", fingerprint, "temporal workflow delete --workflow-id rotate/gpt"} {
					if !strings.Contains(d, want) {
						t.Errorf("the details do not say %q:\n%s", want, d)
					}
				}
				if strings.Contains(d, exposed) {
					t.Errorf("the details show the key:\n%s", d)
				}
				r.signal(rotation.RollBack, rotation.DecisionMessage{})
			})
			res := r.run()
			if left := strings.Join(res.FollowUps, "\n"); !strings.Contains(left, "contained what looks like a key") || strings.Contains(left, exposed) {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestASignalThatNoMessageHasTheNameOfIsAnsweredInTheDetails(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.after(time.Hour, func() {
		r.env.SignalWorkflow("aprove", nil)
		r.env.SignalWorkflow("__temporal_made_up", nil)
	})
	r.after(2*time.Hour, func() {
		if d := r.status().Details; !strings.Contains(d, `A signal "aprove" was not accepted: no message has that name`) {
			t.Error(d)
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.run()
}

func TestADispatcherThatIsSentAKeySaysSoInItsResult(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	workflows.RegisterLaunch(r.env)
	r.after(0, func() { r.env.SignalWorkflow("here", exposed) })
	r.env.ExecuteWorkflow(workflows.Dispatch, workflows.DispatchInput{Key: r.key, Install: "scene1"})
	var out workflows.Dispatched
	if err := r.env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.Why, "A KEY IS IN THIS HISTORY, sent in a signal (fingerprint "+secret.FromString(exposed).Fingerprint()) || strings.Contains(out.Why, exposed) {
		t.Error(out.Why)
	}
}
