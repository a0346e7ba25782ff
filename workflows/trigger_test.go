package workflows_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// starters notes what triggers start; tests/e2e has the real one. It can be away for a while.
type starters struct {
	mu      sync.Mutex
	away    int
	refuses string
	started []string
	raised  []rotation.DecisionMessage
}

func (s *starters) note(text, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away > 0 {
		s.away--
		return errors.New("Temporal is away")
	}
	if s.refuses == key {
		return errors.New("it does not take it")
	}
	s.started = append(s.started, text+" "+key)
	return nil
}

func (s *starters) StartManual(_ context.Context, k rotation.Key, _, _ string) (bool, error) {
	return true, s.note("manual", k.Name)
}

func (s *starters) Raise(_ context.Context, k rotation.Key, m rotation.DecisionMessage) error {
	s.mu.Lock()
	s.raised = append(s.raised, m)
	s.mu.Unlock()
	return s.note("emergency", k.Name)
}

func (s *starters) Latest(context.Context, string) (rotation.LatestRotation, error) {
	return rotation.LatestRotation{}, nil
}

func triggered(t *testing.T, r *fixture, s *starters, in workflows.TriggerInput) (workflows.Triggered, error) {
	t.Helper()
	launcher := &activities.Launcher{Environment: r.acts.Environment, Starter: s, Index: &activities.Index{}}
	workflows.RegisterLaunch(r.env)
	r.env.RegisterActivity(launcher.Identify)
	r.env.RegisterActivity(launcher.StartRotation)
	in.Source, in.Delivery = "scanner", "d1"
	if in.Why == "" {
		in.Why = "seen in a paste"
	}
	r.env.ExecuteWorkflow(workflows.Trigger, in)
	var out workflows.Triggered
	if err := r.env.GetWorkflowError(); err != nil {
		return out, err
	}
	return out, r.env.GetWorkflowResult(&out)
}

func TestATriggerStartsWhatItWasAskedFor(t *testing.T) {
	t.Parallel()
	value := func(r *fixture) []string { return []string{r.First("ci").Fingerprint()} }
	for sentence, tc := range map[string]struct {
		in      workflows.TriggerInput
		value   func(*fixture) []string
		away    int
		arrange func(*fixture)
		started string
		why     string
	}{
		"a key by name":                  {in: workflows.TriggerInput{Keys: []string{"ci"}}, started: "manual ci", why: "ci: A rotation was started."},
		"a key whose values leaked":      {in: workflows.TriggerInput{Keys: []string{"ci"}, Leaked: true}, started: "emergency ci", why: "every value made before now leaked"},
		"a value that leaked":            {in: workflows.TriggerInput{Leaked: true}, value: value, started: "emergency ci", why: "The emergency was raised"},
		"a value that only gets old":     {value: value, started: "manual ci", why: "A rotation was started"},
		"a value that nobody has":        {in: workflows.TriggerInput{Leaked: true, Fingerprints: []string{"0123456789ab"}}, why: "no key of this worker has the value 0123456789ab"},
		"a value of a key out of bounds": {in: workflows.TriggerInput{Leaked: true, Within: []string{"openai-*"}}, value: value, why: "Nothing was started: no key"},
		"while Temporal is away":         {in: workflows.TriggerInput{Keys: []string{"ci"}}, away: 30, started: "manual ci", why: "A rotation was started"},
		"while a store is away for an hour": {in: workflows.TriggerInput{Leaked: true}, value: value, arrange: func(r *fixture) {
			r.Cloud.Inject(simcloud.Fault{Method: "GetSecret", Kind: simcloud.Refuse, Code: 503, Times: 60})
		}, started: "emergency ci", why: "The emergency was raised"},
		"a value that is refused already": {in: workflows.TriggerInput{Leaked: true}, value: value, arrange: func(r *fixture) {
			r.rules.MayDie = append(r.rules.MayDie, r.oldID)
			if err := r.acts.Providers["google"].Delete(context.Background(), scenario.Account("ci"), r.oldID); err != nil {
				r.Fatal(err)
			}
		}, why: "is no longer live"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, s := newFixture(t, bothStores()), &starters{away: tc.away}
			if tc.arrange != nil {
				tc.arrange(r)
			}
			if tc.value != nil {
				tc.in.Fingerprints = tc.value(r)
			}
			out, err := triggered(t, r, s, tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.started, ", "); got != tc.started || !strings.Contains(out.Why, tc.why) {
				t.Errorf("started %q; %s", got, out.Why)
			}
			for _, m := range s.raised {
				if m.RevokeFirst || m.By != "webhook scanner" || m.Why != "seen in a paste" {
					t.Errorf("raised %+v", m)
				}
			}
		})
	}
}

func TestTheSameLeakHasOneNameWhoeverReportsIt(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		in   workflows.TriggerInput
		want string
	}{
		"a value":                    {workflows.TriggerInput{}, "leak/"},
		"an alert without the value": {workflows.TriggerInput{Keys: []string{"ci"}, Leak: "github-alert/7"}, "github-alert/7"},
		"a key by name":              {workflows.TriggerInput{Keys: []string{"ci"}}, "trigger/scanner/d1"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, s := newFixture(t, bothStores()), &starters{}
			if tc.in.Leaked = true; len(tc.in.Keys) == 0 {
				tc.in.Fingerprints = []string{r.First("ci").Fingerprint()}
				tc.want += tc.in.Fingerprints[0]
			}
			if _, err := triggered(t, r, s, tc.in); err != nil || len(s.raised) != 1 || s.raised[0].ID != tc.want {
				t.Errorf("%v, raised %+v", err, s.raised)
			}
		})
	}
}

func TestATriggerThatCannotBeServedFailsForAllToSee(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		in      workflows.TriggerInput
		refuses string
		away    bool
		want    string
	}{
		"a key that the worker does not have":     {workflows.TriggerInput{Keys: []string{"other"}}, "", false, "The worker's rekey.yaml has no key of that name"},
		"one of two keys":                         {workflows.TriggerInput{Keys: []string{"other", "ci"}, Leaked: true}, "", false, "ci: The emergency was raised: every value made before now leaked. Not every rotation could be started."},
		"a key that the source may not trigger":   {workflows.TriggerInput{Keys: []string{"ci"}, Within: []string{"openai-*"}}, "", false, "the source scanner may not trigger the key ci"},
		"a rotation that does not take it":        {workflows.TriggerInput{Keys: []string{"ci"}, Leaked: true}, "ci", false, "it does not take it"},
		"a value, while a store is away for ever": {workflows.TriggerInput{Fingerprints: []string{"0123456789ab"}, Leaked: true}, "", true, "It could not be determined whose value was reported."},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, s := newFixture(t, bothStores()), &starters{refuses: tc.refuses}
			if tc.away {
				r.Cloud.Inject(simcloud.Fault{Method: "GetSecret", Kind: simcloud.Refuse, Code: 503})
			}
			// A week is long even on the skipping clock.
			r.env.SetTestTimeout(2 * time.Minute)
			if _, err := triggered(t, r, s, tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

var _ activities.Starter = (*starters)(nil)
