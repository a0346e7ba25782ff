package activities_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/testsuite"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// identify asks whose value it is, as a worker does.
func (r *fixture) identify(in activities.IdentifyInput) (activities.Identified, error) {
	r.Helper()
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	env.RegisterActivity(r.launcher.Identify)
	var out activities.Identified
	v, err := env.ExecuteActivity(r.launcher.Identify, in)
	if err != nil {
		return out, err
	}
	return out, v.Get(&out)
}

func (r *fixture) reads() (n int) {
	for _, e := range r.Cloud.Journal() {
		if e.Kind == simcloud.Called && strings.Contains(e.Method, "AccessSecretVersion") {
			n++
		}
	}
	return n
}

func TestAValueIsFoundWhereverItStands(t *testing.T) {
	first := func(r *fixture) []string { return r.acts.Fingerprints(r.First("ci")) }
	for sentence, tc := range map[string]struct {
		arrange func(*fixture)
		prints  func(*fixture) []string
		within  []string
		want    []activities.Found
	}{
		"as current, before any rotation": {nil, first, nil, []activities.Found{{Key: "ci", Live: true}}},
		"by the id of its key":            {nil, func(r *fixture) []string { return []string{secret.FromString(r.oldID).Fingerprint()} }, nil, []activities.Found{{Key: "ci", Live: true}}},
		"in a file of another shape": {nil, func(r *fixture) []string {
			return r.acts.Fingerprints(secret.FromString("\n " + strings.Replace(r.First("ci").Reveal(), "{", "{ \n", 1)))
		}, nil, []activities.Found{{Key: "ci", Live: true}}},
		"refused by the provider already": {func(r *fixture) {
			r.rules.MayDie = []string{r.oldID}
			if err := r.acts.Providers["google"].Delete(context.Background(), scenario.Account("ci"), r.oldID); err != nil {
				r.Fatal(err)
			}
		}, first, nil, []activities.Found{{Key: "ci"}}},
		"in no store":                         {nil, func(*fixture) []string { return []string{"0123456789ab"} }, nil, nil},
		"of a key that the source may not":    {nil, first, []string{"openai-*"}, nil},
		"of a key that the source may touch":  {nil, first, []string{"c*"}, []activities.Found{{Key: "ci", Live: true}}},
		"in a version that has no stage left": {func(r *fixture) { r.bury() }, first, nil, []activities.Found{{Key: "ci", Live: true}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.rules = simcloud.Rules{} // it is about looking
			if tc.arrange != nil {
				tc.arrange(r)
			}
			out, err := r.identify(activities.IdentifyInput{Fingerprints: tc.prints(r), Within: tc.within})
			if err != nil {
				t.Fatal(err)
			}
			for i := range tc.want {
				tc.want[i].Value = r.First("ci").Fingerprint()
			}
			if diff := cmp.Diff(tc.want, out.Found); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// bury makes another value current, behind rekey's back, so that the first one stands under no stage.
func (r *fixture) bury() {
	_, value, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		r.Fatal(err)
	}
	ctx := context.Background()
	if _, err := r.acts.Stores[scenario.Alias].Add(ctx, "ci", value); err != nil {
		r.Fatal(err)
	}
	if err := r.SM.SetAlias("ci", simcloud.ReadCurrent, 2); err != nil {
		r.Fatal(err)
	}
}

func TestNobodySaysThatAValueIsGoneBeforeAllStoresHaveAnswered(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules = simcloud.Rules{}
	r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "GetSecret", Kind: simcloud.Refuse, Code: 503})
	_, err := r.identify(activities.IdentifyInput{Fingerprints: []string{"0123456789ab"}})
	if err == nil || !strings.Contains(err.Error(), "these keys could not be looked at: ci") {
		t.Errorf("the error is %v", err)
	}
}

func TestReportsThatComeAtOnceShareALook(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules = simcloud.Rules{}
	r.bury()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			out, err := r.identify(activities.IdentifyInput{Fingerprints: []string{"0123456789ab"}})
			if err != nil || len(out.Found) > 0 {
				t.Errorf("%v, %v", out, err)
			}
		})
	}
	all.Wait()
	before := r.reads()
	if _, err := r.identify(activities.IdentifyInput{Fingerprints: []string{"0123456789ab"}}); err != nil {
		t.Fatal(err)
	}
	// The value that is in no record is the current one, which somebody else put there.
	if after := r.reads(); after-before > 2 || before == 0 {
		t.Errorf("%d reads of values at first, %d for one report more", before, after-before)
	}
}

func (c *fakeStarter) StartManual(_ context.Context, k rotation.Key, by, why string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raised = append(c.raised, "manual "+k.Name+" by "+by)
	return !c.standings[k.Name].Running, c.fails[k.Name]
}

func TestATriggerStartsWhatIsNotDoneYet(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules = simcloud.Rules{}
	value, since := r.First("ci").Fingerprint(), r.begin
	done := func(phase rotation.Phase, started, ended time.Duration) rotation.LatestRotation {
		return rotation.LatestRotation{Known: true, Result: &rotation.Result{
			Phase: phase, Outcome: "That is that.", StartedAt: since.Add(started), EndedAt: since.Add(ended),
			Decisions: []rotation.Decision{{Kind: rotation.RaiseEmergency, DecisionMessage: rotation.DecisionMessage{ID: "leak/" + value}}},
		}}
	}
	leak := activities.StartInput{Leaked: true, ID: "leak/" + value, Value: value}
	for sentence, tc := range map[string]struct {
		in       activities.StartInput
		standing rotation.LatestRotation
		called   string
		want     string
	}{
		"a rotation":                              {activities.StartInput{}, rotation.LatestRotation{}, "manual ci by webhook x", "A rotation was started."},
		"while one is under way":                  {activities.StartInput{}, rotation.LatestRotation{Running: true}, "manual ci by webhook x", "under way already"},
		"after one that ended before the request": {activities.StartInput{}, done(rotation.Completed, -2*time.Hour, -time.Hour), "manual ci by webhook x", "A rotation was started."},
		"asked again, after it has ended":         {activities.StartInput{}, done(rotation.Completed, time.Second, time.Minute), "", "has ended already: That is that."},
		"a leak":                                  {leak, rotation.LatestRotation{}, "ci for leak/" + value, "The emergency was raised: " + value},
		"a leak of everything":                    {activities.StartInput{Leaked: true, ID: "trigger/x/1"}, rotation.LatestRotation{}, "ci for trigger/x/1", "every value made before now"},
		"a leak that is served":                   {leak, done(rotation.Completed, time.Second, time.Minute), "", "has served this already"},
		"a leak that was served in vain":          {leak, done(rotation.RolledBack, time.Second, time.Minute), "ci for leak/" + value, "The emergency was raised"},
		"a leak that came back":                   {leak, done(rotation.Completed, -2*time.Hour, -time.Hour), "ci for leak/" + value, "The emergency was raised"},
	} {
		c := &fakeStarter{standings: map[string]rotation.LatestRotation{"ci": tc.standing}}
		r.launcher.Starter = c
		tc.in.Key, tc.in.Since, tc.in.By = "ci", since, "webhook x"
		env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
		env.RegisterActivity(r.launcher.StartRotation)
		v, err := env.ExecuteActivity(r.launcher.StartRotation, tc.in)
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
			continue
		}
		var out activities.Started
		if err := v.Get(&out); err != nil || !strings.Contains(out.Done, tc.want) || strings.Join(c.raised, ", ") != tc.called {
			t.Errorf("%s: %+v, called %v, %v", sentence, out, c.raised, err)
		}
	}
	if _, err := r.launcher.StartRotation(context.Background(), activities.StartInput{Key: "other"}); !fault.Is(err, fault.Rejected) {
		t.Errorf("another key: %v", err)
	}
}
