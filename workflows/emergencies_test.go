package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/sdktest"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/workflows"
)

// emergencyFixture plays the rotations that an emergency raises, and RaiseAll: under test is the emergency's own logic. What RaiseAll
// really does is tested in activities and tests/manykeys.
type emergencyFixture struct {
	*testing.T
	activities.Starter
	env *testsuite.TestWorkflowEnvironment
	in  workflows.EmergencyInput
	// play returns how the n-th rotation of a key stands so long after it began; nil is one that is done after ten seconds.
	play func(key string, n int, since time.Duration) activities.RotationStatus
	// refuse returns why the n-th try to raise an emergency does not succeed.
	refuse func(key string, n int) (problem string, hopeless bool)
	// lose reports whether the reply of the n-th RaiseAll is lost.
	lose func(n int) bool

	mu       sync.Mutex // looks at several keys go on at once
	began    map[string][]time.Time
	order    []string
	calls    int
	looks    int
	most     int
	tries    map[string]int
	messages []rotation.DecisionMessage

	// asked and timers are how many activities and timers are in the history of the run.
	asked, timers int
}

func newEmergencyFixture(t *testing.T, keys int) *emergencyFixture {
	p := &emergencyFixture{T: t, began: map[string][]time.Time{}, tries: map[string]int{}}
	p.in = workflows.EmergencyInput{ID: "abcd2345", Message: rotation.DecisionMessage{By: "test", Why: "the laptop was stolen"}}
	for i := range keys {
		p.in.Keys = append(p.in.Keys, fmt.Sprintf("key-%03d", i))
	}
	p.stage(time.Now().UTC().Truncate(time.Second))
	return p
}

// stage makes the environment of a run.
func (p *emergencyFixture) stage(begin time.Time) {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet)
	p.env = suite.NewTestWorkflowEnvironment()
	p.env.SetTestTimeout(time.Minute)
	p.env.SetStartTime(begin)
	workflows.RegisterLaunch(p.env)
	p.env.RegisterActivityWithOptions(p.raiseAll, activity.RegisterOptions{Name: activities.RaiseAllName})
	real := &activities.Launcher{Starter: p}
	p.env.RegisterActivityWithOptions(func(ctx context.Context, in activities.StatusesInput) ([]activities.RotationStatus, error) {
		p.mu.Lock()
		p.looks++
		p.mu.Unlock()
		return real.Statuses(ctx, in)
	}, activity.RegisterOptions{Name: activities.StatusesName})
	p.env.SetWorkerOptions(worker.Options{Interceptors: append(sdktest.Interceptors(p.env), &activities.Interceptor{})})
	scheduled := map[string]bool{}
	p.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		scheduled[info.ActivityID] = true
		p.asked = len(scheduled)
	})
	p.env.SetOnTimerScheduledListener(func(string, time.Duration) { p.timers++ })
}

func (p *emergencyFixture) raiseAll(_ context.Context, in activities.RaiseAllInput) ([]activities.Raised, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	p.messages = append(p.messages, in.Message)
	var out []activities.Raised
	for _, key := range in.Names {
		p.tries[key]++
		if p.refuse != nil {
			if problem, hopeless := p.refuse(key, p.tries[key]); problem != "" {
				out = append(out, activities.Raised{Key: key, Problem: problem, Hopeless: hopeless})
				continue
			}
		}
		if s, running := p.standing(key); !running && !s.Served {
			p.began[key] = append(p.began[key], p.env.Now())
			p.order = append(p.order, key)
		}
		out = append(out, activities.Raised{Key: key, At: p.env.Now()})
	}
	p.most = max(p.most, p.running())
	if p.lose != nil && p.lose(p.calls) {
		return nil, fault.New(fault.Unavailable, "died", "raise")
	}
	return out, nil
}

// Standing implements activities.Starter.
func (p *emergencyFixture) Latest(ctx context.Context, key string) (rotation.LatestRotation, error) {
	if activity.IsActivity(ctx) {
		// The environment takes a week of looks for one try of the activity, and its clock for heartbeats is the wall's.
		activity.RecordHeartbeat(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, running := p.standing(key)
	out := rotation.LatestRotation{Known: true, Running: running, Phase: s.Phase}
	if s.Unreadable != "" {
		return out, fault.New(fault.Internal, "memo", "look")
	}
	if s.Served {
		out.Result = &rotation.Result{
			Phase: s.Phase, PublishedAt: s.PublishedAt, RevokedAt: s.RevokedAt, Outcome: s.Outcome, FollowUps: make([]string, s.FollowUps), Unknown: s.Unknown,
			Decisions: []rotation.Decision{{Kind: rotation.RaiseEmergency, DecisionMessage: rotation.DecisionMessage{ID: p.in.ID}}},
		}
	}
	return out, nil
}

func (p *emergencyFixture) standing(key string) (s activities.RotationStatus, running bool) {
	n := len(p.began[key])
	if n == 0 {
		return activities.RotationStatus{Key: key}, false
	}
	play := p.play
	if play == nil {
		play = p.after(10 * time.Second)
	}
	s = play(key, n, p.env.Now().Sub(p.began[key][n-1]))
	s.Key = key
	return s, s.Running
}

func (p *emergencyFixture) running() (n int) {
	for key := range p.began {
		if s, running := p.standing(key); running && !s.Phase.Waiting() {
			n++
		}
	}
	return n
}

// after plays rotations that are done after a while.
func (p *emergencyFixture) after(d time.Duration) func(string, int, time.Duration) activities.RotationStatus {
	return func(key string, n int, since time.Duration) activities.RotationStatus {
		if since < d {
			return activities.RotationStatus{Running: true, Phase: rotation.Prepare}
		}
		begin := p.began[key][n-1]
		return activities.RotationStatus{Served: true, Phase: rotation.Completed, PublishedAt: begin.Add(d / 2), RevokedAt: begin.Add(d), Outcome: "Replaced."}
	}
}

func (p *emergencyFixture) run() workflows.EmergencyProgress {
	p.Helper()
	p.env.ExecuteWorkflow(workflows.Emergency, p.in)
	if err := p.env.GetWorkflowError(); err != nil {
		p.Fatalf("the emergency failed: %v", err)
	}
	var f workflows.EmergencyProgress
	if err := p.env.GetWorkflowResult(&f); err != nil {
		p.Fatal(err)
	}
	return f
}

func (p *emergencyFixture) progress() (f workflows.EmergencyProgress) {
	p.Helper()
	v, err := p.env.QueryWorkflow(workflows.ProgressQuery)
	if err == nil {
		err = v.Get(&f)
	}
	if err != nil {
		p.Fatal(err)
	}
	return f
}

// details is what the Temporal UI shows.
func (p *emergencyFixture) details() string {
	p.Helper()
	var metadata sdkpb.WorkflowMetadata
	v, err := p.env.QueryWorkflow("__temporal_workflow_metadata")
	if err == nil {
		err = v.Get(&metadata)
	}
	if err != nil {
		p.Fatal(err)
	}
	return metadata.GetCurrentDetails()
}

func row(f workflows.EmergencyProgress, key string) workflows.KeyProgress {
	i := slices.IndexFunc(f.Keys, func(r workflows.KeyProgress) bool { return r.Key == key })
	return f.Keys[i]
}

func TestAnEmergencyRotatesAllKeysInOrderAndSoManyAtATime(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 20)
	p.in.Concurrency = 3
	f := p.run()
	if !f.Complete() || f.Outcome != "20 of 20 done." || len(p.order) != 20 {
		t.Errorf("%+v", f)
	}
	if !slices.Equal(p.order, p.in.Keys) {
		t.Errorf("raised in the order %v", p.order)
	}
	if p.most != 3 {
		t.Errorf("%d rotations were under way at once, want 3", p.most)
	}
	for _, r := range f.Keys {
		fresh, _ := r.ToNewKey()
		refused, ok := r.ToRefused()
		if fresh != 5*time.Second || refused != 10*time.Second || !ok {
			t.Fatalf("%s: new key after %s, old key refused after %s", r.Key, fresh, refused)
		}
	}
	for _, m := range p.messages {
		if m.ID != "abcd2345" || m.Why != p.in.Message.Why {
			t.Fatalf("a rotation got %+v", m)
		}
	}
	if f := p.progress(); f.Outcome == "" {
		t.Error("the query does not say how it ended")
	}
}

func TestAReplyThatIsLostRaisesNothingTwice(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 5)
	p.lose = func(n int) bool { return n < 4 }
	f := p.run()
	if !f.Complete() || p.calls != 4 || len(p.order) != 5 {
		t.Errorf("%d calls, %d rotations: %+v", p.calls, len(p.order), f)
	}
}

func TestAKeyThatCannotBeRaisedIsAFailedRowThatSaysWhy(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		tries    int // in vain; 0 for ever
		hopeless bool
		state    workflows.KeyState
		asked    int
	}{
		"one that the worker does not know":   {0, true, workflows.Failed, 1},
		"one that is refused for ever":        {0, false, workflows.Failed, 10},
		"one that is refused and then is not": {3, false, workflows.Done, 4},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newEmergencyFixture(t, 4)
			p.in.Concurrency = 1
			p.refuse = func(key string, n int) (string, bool) {
				if key == "key-001" && (tc.tries == 0 || n <= tc.tries) {
					return "no such thing", tc.hopeless
				}
				return "", false
			}
			f := p.run()
			r := row(f, "key-001")
			if r.State != tc.state || p.tries["key-001"] != tc.asked || r.State == workflows.Failed && r.Why != "no such thing" {
				t.Errorf("asked %d times: %+v", p.tries["key-001"], r)
			}
			if f.Counts()[workflows.Done] < 3 {
				t.Errorf("the others: %+v", f)
			}
		})
	}
}

func TestARotationThatIsEndedFromOutsideIsRaisedAgain(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		endings int
		state   workflows.KeyState
		raises  int
	}{
		"once":                           {1, workflows.Done, 2},
		"three times":                    {3, workflows.Done, 4},
		"for ever, until it is given up": {100, workflows.Failed, 4},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newEmergencyFixture(t, 2)
			done := p.after(10 * time.Second)
			p.play = func(key string, n int, since time.Duration) activities.RotationStatus {
				if key == "key-000" && n <= tc.endings && since > 0 {
					return activities.RotationStatus{} // terminated
				}
				return done(key, n, since)
			}
			f := p.run()
			r := row(f, "key-000")
			if r.State != tc.state || len(p.began["key-000"]) != tc.raises || !r.RaisedAt.Equal(p.began["key-000"][0]) {
				t.Errorf("%d rotations: %+v", len(p.began["key-000"]), r)
			}
			if r.State == workflows.Failed && !strings.Contains(r.Why, "ended from outside 4 times") {
				t.Errorf("it says %q", r.Why)
			}
		})
	}
}

func TestARotationThatRollsBackIsAFailedRow(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 2)
	p.play = func(string, int, time.Duration) activities.RotationStatus {
		return activities.RotationStatus{Served: true, Phase: rotation.RolledBack, Outcome: "The new key is refused.", FollowUps: 2}
	}
	f := p.run()
	if r := row(f, "key-000"); r.State != workflows.Failed || r.Why != "The new key is refused." || r.FollowUps != 2 || f.Outcome != "0 of 2 done, 2 failed." {
		t.Errorf("%+v", f)
	}
}

func TestAKeyOfWhichAnUnknownValueWasNamedIsAFailedRow(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 1)
	p.in.Message.Leaked = []string{"0123456789ab"}
	p.play = func(string, int, time.Duration) activities.RotationStatus {
		return activities.RotationStatus{Served: true, Phase: rotation.Completed, Outcome: "Nothing was changed.", FollowUps: 1, Unknown: true}
	}
	if f := p.run(); f.Keys[0].State != workflows.Failed || !strings.Contains(f.Keys[0].Why, "is unknown") {
		t.Errorf("%+v", f.Keys[0])
	}
}

func TestRotationsThatMustWaitDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		phase  rotation.Phase
		within time.Duration
		waits  string
	}{
		"for a person":             {rotation.AwaitingKey, 2 * time.Minute, "**Waiting for a person**"},
		"for their grace period":   {rotation.Grace, 2 * time.Minute, "8 of 10 done, 2 under way."},
		"for a provider that died": {rotation.Create, 5 * time.Minute, "8 of 10 done, 2 under way."},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newEmergencyFixture(t, 10)
			p.in.Concurrency = 2
			begin := p.env.Now()
			done := p.after(10 * time.Second)
			p.play = func(key string, n int, since time.Duration) activities.RotationStatus {
				if key < "key-002" && since < day {
					return activities.RotationStatus{Running: true, Phase: tc.phase}
				}
				return done(key, n, since)
			}
			var then workflows.EmergencyProgress
			p.env.RegisterDelayedCallback(func() { then = p.progress() }, tc.within)
			p.env.RegisterDelayedCallback(func() {
				if d := p.details(); !strings.Contains(d, tc.waits) {
					t.Errorf("the details do not say %q:\n%s", tc.waits, d)
				}
			}, 12*time.Hour)
			f := p.run()
			if !f.Complete() || then.Counts()[workflows.Done] != 8 {
				t.Errorf("after %s: %+v, in the end %+v", tc.within, then.Counts(), f.Counts())
			}
			// Seen within fifteen seconds, and raised within another few.
			if took := f.EndedAt.Sub(begin); took < day || took > day+20*time.Second {
				t.Errorf("it ended after %s", took)
			}
			// Every 15 seconds for a day, and some at the beginning.
			if p.looks > 24*60*4+100 {
				t.Errorf("it looked %d times", p.looks)
			}
		})
	}
}

// events is at most how many events the run has made: three of an activity, two of a timer, and after each three of a
// workflow task. That a look which is tried again makes none is seen in tests/manykeys.
func (p *emergencyFixture) events() int { return 10 + p.asked*(3+3) + p.timers*(2+3) }

func TestAWeekOfWaitingForAPersonMakesFewerThanFiftyEvents(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 1)
	begin := p.env.Now()
	p.play = func(string, int, time.Duration) activities.RotationStatus {
		if p.env.Now().Sub(begin) < 7*day {
			return activities.RotationStatus{Running: true, Phase: rotation.AwaitingKey}
		}
		return activities.RotationStatus{Served: true, Phase: rotation.Completed}
	}
	if f := p.run(); !f.Complete() || f.EndedAt.Sub(begin) < 7*day || f.EndedAt.Sub(begin) > 7*day+15*time.Second {
		t.Errorf("%+v", f)
	}
	if p.events() > 50 || p.looks < 7*24*60*4 {
		t.Errorf("%d activities, %d timers, %d looks", p.asked, p.timers, p.looks)
	}
}

func TestATimerIsSetOnlyWhereTimeAloneMakesRoom(t *testing.T) {
	t.Parallel()
	const keys = 12
	p := newEmergencyFixture(t, keys)
	p.in.Concurrency = 2
	p.play = func(string, int, time.Duration) activities.RotationStatus {
		if len(p.order) < keys {
			return activities.RotationStatus{Running: true, Phase: rotation.Create} // the provider is down
		}
		return activities.RotationStatus{Served: true, Phase: rotation.Completed}
	}
	if f := p.run(); !f.Complete() || len(p.order) != keys {
		t.Errorf("%d rotations: %+v", len(p.order), f)
	}
	// Two more every three minutes: for each two a timer until there is room, one between looks, two looks and a raise.
	if rounds := keys / p.in.Concurrency; p.timers > 3*rounds || p.asked > 4*rounds {
		t.Errorf("%d activities, %d timers", p.asked, p.timers)
	}
}

func TestAKeyThatIsRefusedIsTriedForMoreThanAMinuteWhateverTheOthersDo(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 4)
	begin := p.env.Now()
	done := p.after(2 * time.Minute)
	p.play = func(key string, n int, since time.Duration) activities.RotationStatus {
		s := done(key, n, since)
		if s.Running && int(since.Seconds())%2 == 0 {
			s.Phase = rotation.Verify // there is always news
		}
		return s
	}
	var last time.Time
	p.refuse = func(key string, _ int) (string, bool) {
		if key == "key-000" {
			last = p.env.Now()
			return "no such thing", false
		}
		return "", false
	}
	if f := p.run(); f.Counts()[workflows.Done] != 3 || row(f, "key-000").State != workflows.Failed {
		t.Errorf("%+v", f.Counts())
	}
	if p.tries["key-000"] != 10 || last.Sub(begin) < time.Minute {
		t.Errorf("tried %d times in %s", p.tries["key-000"], last.Sub(begin))
	}
}

func TestARecordThatCannotBeReadIsTheProblemOfItsKeyAlone(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 10)
	p.in.Concurrency = 2
	begin := p.env.Now()
	done := p.after(10 * time.Second)
	p.play = func(key string, n int, since time.Duration) activities.RotationStatus {
		if key < "key-002" && p.env.Now().Sub(begin) < day {
			return activities.RotationStatus{Unreadable: "yes"}
		}
		return done(key, n, since)
	}
	p.env.RegisterDelayedCallback(func() {
		f := p.progress()
		if r := row(f, "key-001"); f.Counts()[workflows.Done] != 8 || !r.Unreadable || r.Why != "What its rotation has recorded cannot be read (memo)" {
			t.Errorf("%+v", f)
		}
		if d := p.details(); !strings.Contains(d, "**Unreadable**") || !strings.Contains(d, "`rotate/key-001` What its rotation has recorded cannot be read") || strings.Contains(d, "do nothing") {
			t.Errorf("the details:\n%s", d)
		}
	}, 2*time.Minute)
	f := p.run()
	if r := row(f, "key-001"); !f.Complete() || r.Unreadable || r.Why != "Replaced." || len(p.order) != 10 {
		t.Errorf("%d rotations, in the end %+v", len(p.order), f)
	}
	if p.asked+p.timers > 60 {
		t.Errorf("%d activities, %d timers", p.asked, p.timers)
	}
}

func TestACancelInTheMiddleOfAWaitIsServedAtOnceAndTheResultIsOfThatMoment(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 3)
	begin := p.env.Now()
	at := begin.Add(5*time.Hour + time.Second)
	p.play = func(key string, n int, _ time.Duration) activities.RotationStatus {
		if key == "key-002" && p.env.Now().Equal(at) {
			return activities.RotationStatus{Served: true, Phase: rotation.Completed} // just now
		}
		return activities.RotationStatus{Running: true, Phase: rotation.AwaitingApproval}
	}
	p.env.RegisterDelayedCallback(p.env.CancelWorkflow, at.Sub(begin))
	f := p.run()
	if want := "1 of 3 done, 2 wait for a person. Somebody cancelled the emergency; rotations that had begun go on."; f.Outcome != want || !f.EndedAt.Equal(at) {
		t.Errorf("%s after %s", f.Outcome, f.EndedAt.Sub(begin))
	}
}

func TestAnEmergencyWithALongHistoryGoesOnInANewRun(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 12)
	p.in.Concurrency = 4
	p.env.RegisterDelayedCallback(func() { p.env.SetContinueAsNewSuggested(true) }, 12*time.Second)
	p.env.ExecuteWorkflow(workflows.Emergency, p.in)
	var again *workflow.ContinueAsNewError
	if err := p.env.GetWorkflowError(); !errors.As(err, &again) {
		t.Fatalf("the run ended with %v", err)
	}
	before := len(p.order)
	if before == 0 || before == 12 {
		t.Fatalf("%d rotations before the new run: not in the middle", before)
	}
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &p.in); err != nil {
		t.Fatal(err)
	}
	p.stage(p.env.Now())
	p.env.SetContinuedExecutionRunID("the run before")
	f := p.run()
	if !f.Complete() || len(f.Keys) != 12 || len(p.order) != 12 || f.Why == "" || f.ID != "abcd2345" || p.most > 4 {
		t.Errorf("%d rotations, %d at once: %+v", len(p.order), p.most, f)
	}
}

func TestACancelStopsTheRaisingAndNothingElse(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 10)
	p.in.Concurrency = 4
	p.env.RegisterDelayedCallback(p.env.CancelWorkflow, 5*time.Second)
	f := p.run()
	want := map[workflows.KeyState]int{workflows.UnderWay: 4, workflows.NotRaised: 6}
	if !f.Cancelled || len(p.order) != 4 || fmt.Sprint(f.Counts()) != fmt.Sprint(want) || f.Complete() {
		t.Errorf("%d rotations: %+v", len(p.order), f)
	}
	if want := "0 of 10 done, 4 under way, 6 not raised. Somebody cancelled the emergency; rotations that had begun go on."; f.Outcome != want {
		t.Errorf("it says %q", f.Outcome)
	}
}

func TestACancelThatComesFirstRaisesNothing(t *testing.T) {
	t.Parallel()
	p := newEmergencyFixture(t, 3)
	p.env.RegisterDelayedCallback(p.env.CancelWorkflow, 0)
	if f := p.run(); len(p.order) > 0 || f.Counts()[workflows.NotRaised] != 3 {
		t.Errorf("%d rotations: %+v", len(p.order), f)
	}
}

func TestAnEmergencyThatMakesNoSenseIsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		keys   int
		change func(*workflows.EmergencyInput)
		want   string
	}{
		"too many keys":                    {workflows.MaxFleet + 1, func(*workflows.EmergencyInput) {}, "5001 keys are too many for one emergency; it takes 5000"},
		"no key":                           {0, func(*workflows.EmergencyInput) {}, "at least one key"},
		"no id":                            {1, func(in *workflows.EmergencyInput) { in.ID = "" }, "needs an ID"},
		"no reason":                        {1, func(in *workflows.EmergencyInput) { in.Message.Why = "" }, "needs a reason"},
		"a key twice":                      {3, func(in *workflows.EmergencyInput) { in.Keys[2] = in.Keys[0] }, "is listed twice"},
		"values of several keys":           {2, func(in *workflows.EmergencyInput) { in.Message.Leaked = []string{"3"} }, "for one key only"},
		"a value that was pasted":          {1, func(in *workflows.EmergencyInput) { in.Message.Leaked = []string{"sk-abcdefghijklmnopqrstuvwx"} }, "the input contains what looks like a key"},
		"one that begins in the middle":    {1, func(in *workflows.EmergencyInput) { in.Resume = &workflows.EmergencyProgress{} }, "leave resume and carry out"},
		"a reason that holds what leaked ": {1, func(in *workflows.EmergencyInput) { in.Message.Why = "AKIAABCDEFGHIJKLMNOP" }, "the input contains what looks like a key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newEmergencyFixture(t, tc.keys)
			tc.change(&p.in)
			p.env.ExecuteWorkflow(workflows.Emergency, p.in)
			err := p.env.GetWorkflowError()
			if err == nil || !strings.Contains(err.Error(), tc.want) || p.calls > 0 {
				t.Errorf("%d calls: %v", p.calls, err)
			}
			if app, ok := errors.AsType[*temporal.ApplicationError](err); !ok || !app.NonRetryable() {
				t.Errorf("%v would be tried again", err)
			}
		})
	}
}

func TestTheRowsOfTheLargestEmergencyFitIntoOneMessage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 34, 56, 123000000, time.UTC)
	f := workflows.EmergencyProgress{ID: "abcd2345", By: strings.Repeat("b", 100), Why: strings.Repeat("w", 1000)}
	for i := range workflows.MaxFleet {
		f.Keys = append(f.Keys, workflows.KeyProgress{
			Key: fmt.Sprintf("%039d", i), State: workflows.Failed, Phase: rotation.RolledBack, RaisedAt: now, PublishedAt: now, RevokedAt: now,
			Raises: 4, Tries: 9, Why: strings.Repeat("e", 100), FollowUps: 3,
		})
	}
	text, err := json.Marshal(f)
	// Temporal refuses a payload of more than 2 MB.
	if err != nil || len(text) > 1_900_000 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
