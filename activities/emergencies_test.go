package activities_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// fakeStarter plays the rotations that a test names, and remembers what was started. tests/manykeys runs the real one.
type fakeStarter struct {
	activities.Starter
	mu        sync.Mutex
	raised    []string
	standings map[string]rotation.LatestRotation
	fails     map[string]error
}

func (c *fakeStarter) Raise(_ context.Context, k rotation.Key, m rotation.DecisionMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raised = append(c.raised, k.Name+" for "+m.ID)
	return c.fails[k.Name]
}

func (c *fakeStarter) Latest(_ context.Context, key string) (rotation.LatestRotation, error) {
	return c.standings[key], c.fails["look at "+key]
}

// ended is a rotation that took an emergency and has ended.
func ended(id string) rotation.LatestRotation {
	return rotation.LatestRotation{Known: true, Result: &rotation.Result{
		Phase: rotation.Completed, Outcome: strings.Repeat("Ü", 500), FollowUps: []string{"see to it"}, PublishedAt: time.Unix(1, 0), RevokedAt: time.Unix(2, 0),
		Decisions: []rotation.Decision{{Kind: rotation.RaiseEmergency, DecisionMessage: rotation.DecisionMessage{ID: id}}},
	}}
}

func launcherOn(c *fakeStarter) *activities.Launcher {
	keys := []rotation.Key{{Name: "fresh"}, {Name: "running"}, {Name: "served"}, {Name: "other"}, {Name: "refusing"}, {Name: "silent"}}
	return &activities.Launcher{Environment: &activities.Environment{Keys: func() []rotation.Key { return keys }, Now: time.Now}, Starter: c, Index: &activities.Index{}}
}

func TestAnEmergencyIsRaisedForEachKeyByItsName(t *testing.T) {
	c := &fakeStarter{
		standings: map[string]rotation.LatestRotation{"running": {Known: true, Running: true}, "served": ended("em1"), "other": ended("em0")},
		fails:     map[string]error{"refusing": errors.New("it does not take it"), "look at silent": errors.New("Temporal is away")},
	}
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	a := launcherOn(c)
	env.RegisterActivity(a.RaiseAll)
	v, err := env.ExecuteActivity(a.RaiseAll, activities.RaiseAllInput{
		Names: []string{"nobody", "silent", "fresh", "running", "served", "other", "refusing"}, Message: rotation.DecisionMessage{ID: "em1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []activities.Raised
	if err := v.Get(&out); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		key, problem string
		hopeless     bool
	}{
		{"nobody", `rekey.yaml has no key "nobody"`, true},
		{"silent", "Temporal is away", false},
		{"fresh", "", false}, {"running", "", false}, {"served", "", false}, {"other", "", false},
		{"refusing", "it does not take it", false},
	} {
		got := out[i]
		if got.Key != want.key || !strings.Contains(got.Problem, want.problem) || (got.Problem == "") != (want.problem == "") || got.Hopeless != want.hopeless || got.At.IsZero() != (want.problem != "") {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	slices.Sort(c.raised)
	// A rotation that has ended with this emergency is not followed by another one; one that ended with another is.
	if want := []string{"fresh for em1", "other for em1", "refusing for em1", "running for em1"}; !slices.Equal(c.raised, want) {
		t.Errorf("raised %v, want %v", c.raised, want)
	}
}

func TestAFleetHearsShortlyHowItsRotationsStand(t *testing.T) {
	c := &fakeStarter{standings: map[string]rotation.LatestRotation{
		"running": {Known: true, Running: true, Phase: rotation.Grace}, "served": ended("em1"), "other": ended("em0"),
	}}
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	a := launcherOn(c)
	env.RegisterActivity(a.Statuses)
	v, err := env.ExecuteActivity(a.Statuses, activities.StatusesInput{ID: "em1", Names: []string{"served", "running", "other", "fresh"}})
	if err != nil {
		t.Fatal(err)
	}
	var out []activities.RotationStatus
	if err := v.Get(&out); err != nil {
		t.Fatal(err)
	}
	served, running, other, fresh := out[0], out[1], out[2], out[3]
	if !served.Served || served.Phase != rotation.Completed || !served.RevokedAt.Equal(time.Unix(2, 0)) || served.FollowUps != 1 || len([]rune(served.Outcome)) != 100 {
		t.Errorf("%+v", served)
	}
	if !running.Running || running.Phase != rotation.Grace || running.Served {
		t.Errorf("%+v", running)
	}
	if other.Served || other.Running || fresh.Served || fresh.Running {
		t.Errorf("%+v, %+v", other, fresh)
	}
}

// look asks about keys of which something is known, through the interceptor that every worker has.
func look(t *testing.T, c *fakeStarter, names []string, known []activities.KnownStatus) ([]activities.RotationStatus, error) {
	t.Helper()
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&activities.Interceptor{}}})
	a := launcherOn(c)
	env.RegisterActivity(a.Statuses)
	v, err := env.ExecuteActivity(a.Statuses, activities.StatusesInput{ID: "em1", Names: names, Known: known})
	if err != nil {
		return nil, err
	}
	var out []activities.RotationStatus
	return out, v.Get(&out)
}

func TestAFleetThatKnowsHearsOnlyTheNews(t *testing.T) {
	c := &fakeStarter{
		standings: map[string]rotation.LatestRotation{
			"running": {Known: true, Running: true, Phase: rotation.Grace}, "fresh": {Known: true, Running: true, Phase: rotation.Create},
			"served": ended("em1"), "other": ended("em0"),
		},
		fails: map[string]error{"look at silent": errors.New("Temporal is away"), "look at refusing": fault.New(fault.Internal, "memo", "look")},
	}
	for sentence, tc := range map[string]struct {
		names []string
		known []activities.KnownStatus
		news  string
	}{
		"a phase":                         {[]string{"running", "fresh"}, []activities.KnownStatus{{Phase: rotation.Prepare}, {Phase: rotation.Create}}, "running"},
		"an end":                          {[]string{"running", "served", "other"}, []activities.KnownStatus{{Phase: rotation.Grace}, {}, {}}, "served other"},
		"a record that cannot be read":    {[]string{"running", "refusing"}, []activities.KnownStatus{{Phase: rotation.Grace}, {Phase: rotation.Grace}}, "refusing"},
		"a record that can be read again": {[]string{"running", "refusing"}, []activities.KnownStatus{{Unreadable: true}, {Unreadable: true}}, "running"},
		"while Temporal does not answer about another": {[]string{"running", "silent"}, []activities.KnownStatus{{}, {}}, "running"},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, err := look(t, c, tc.names, tc.known)
			var names []string
			for _, s := range out {
				names = append(names, s.Key)
				if (s.Unreadable != "") != (s.Key == "refusing") {
					t.Errorf("%+v", s)
				}
			}
			if err != nil || strings.Join(names, " ") != tc.news {
				t.Errorf("got %v, %v", names, err)
			}
		})
	}
}

func TestNoNewsIsTriedAgainAndIsNoFailure(t *testing.T) {
	c := &fakeStarter{
		standings: map[string]rotation.LatestRotation{"running": {Known: true, Running: true, Phase: rotation.Grace}},
		fails:     map[string]error{"look at silent": errors.New("Temporal is away"), "look at refusing": fault.New(fault.Internal, "memo", "look")},
	}
	known := []activities.KnownStatus{{Phase: rotation.Grace}, {Unreadable: true}}
	for sentence, tc := range map[string]struct {
		second   string
		category temporal.ApplicationErrorCategory
	}{
		"nothing has changed":       {"refusing", temporal.ApplicationErrorCategoryBenign},
		"Temporal leaves a key out": {"silent", temporal.ApplicationErrorCategoryUnspecified},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := look(t, c, []string{"running", tc.second}, known)
			app, ok := errors.AsType[*temporal.ApplicationError](err)
			if !ok || app.NonRetryable() || app.Type() != string(fault.Unavailable) || app.Category() != tc.category {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestARecordThatCannotBeReadKeepsNoEmergencyFromBeingRaised(t *testing.T) {
	c := &fakeStarter{fails: map[string]error{"look at fresh": fault.New(fault.Internal, "memo", "look")}}
	out, err := launcherOn(c).RaiseAll(t.Context(), activities.RaiseAllInput{Names: []string{"fresh"}, Message: rotation.DecisionMessage{ID: "em1"}})
	if err != nil || out[0].Problem != "" || !slices.Equal(c.raised, []string{"fresh for em1"}) {
		t.Errorf("%+v, raised %v, %v", out, c.raised, err)
	}
}

func TestAFleetLooksAgainWhenTemporalDoesNotAnswer(t *testing.T) {
	c := &fakeStarter{fails: map[string]error{"look at fresh": errors.New("a text that nobody has read")}}
	_, err := launcherOn(c).Statuses(t.Context(), activities.StatusesInput{Names: []string{"fresh"}})
	if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "nobody has read") {
		t.Errorf("got %v", err)
	}
}
