package resources

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/workflows"
)

// story is a rotation in whose activities the worker is told to stop, one after another.
type story struct {
	sentence string
	// in are the activities, in their order.
	in []string
	// openAI: it is a key that a person makes and revokes.
	openAI bool
	setup  func(*testing.T, *testenv.Options)
	// play plays it; stop tells the worker to stop in the next of the activities, in the middle of a request.
	play func(w *env, stop func(activity string))
}

var stories = []story{
	{
		sentence: "a rotation without people",
		in:       []string{"Prepare", "Create", "Store", "Verify", "Promote", "CheckHealth", "Guard", "Revoke", "Confirm", "Retire"},
		setup:    func(_ *testing.T, o *testenv.Options) { o.Scenario.Policy[0] = "grace: 3s" },
		play: func(w *env, stop func(string)) {
			run := w.Rotate(name, rotation.Manual)
			for _, a := range []string{"Prepare", "Create", "Store", "Verify", "Promote", "CheckHealth", "Guard", "Revoke", "Confirm", "Retire"} {
				stop(a)
			}
			w.replaced(run)
			w.firstTries(run)
			if n := w.Cloud.Calls("google-iam", "UploadServiceAccountKey"); n != 1 {
				w.Errorf("%d keys were asked for", n)
			}
		},
	},
	{
		sentence: "a roll-back",
		in:       []string{"Discard"},
		play: func(w *env, stop func(string)) {
			// The new key is never accepted.
			w.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleTokenService, Except: w.oldID, Kind: simcloud.Refuse, Code: 400})
			run := w.Rotate(name, rotation.Manual)
			w.AwaitPhase(name, rotation.Verify)
			w.Decide(name, rotation.RollBack, rotation.DecisionMessage{By: "test", Why: "the test says so"})
			stop("Discard")
			if res := w.Result(name, run.GetRunID()); res.Phase != rotation.RolledBack || len(w.Cloud.LiveKeys()) != 1 {
				w.Errorf("it ended as %s with the keys %v", res.Phase, w.Cloud.LiveKeys())
			}
			w.Invariants(scenario.Rules(name, scenario.Alias))
			w.firstTries(run)
		},
	},
	{
		sentence: "a key that a person makes, and people who are told",
		in:       []string{"Notify", "Adopt"}, openAI: true,
		setup: func(_ *testing.T, o *testenv.Options) {
			o.Scenario.Channels = true
			o.Scenario.Policy = append(o.Scenario.Policy, "notify: [team]")
		},
		play: func(w *env, stop func(string)) {
			run := w.Rotate(name, rotation.Manual)
			s := w.AwaitPhase(name, rotation.AwaitingKey)
			stop("Notify")
			id, v := w.OpenAI.CreateKey(w.Key(name).Account, "made by hand, again")
			version, _, err := w.Setup.StageSupplied(context.Background(), w.Key(name), s.Rotation, v)
			if err != nil {
				w.Fatal(err)
			}
			w.Decide(name, rotation.KeySupplied, rotation.DecisionMessage{ID: "supplied", By: "a person", Version: version})
			stop("Adopt")
			w.AwaitPhase(name, rotation.AwaitingRevocation)
			if err := w.OpenAI.DeleteKey(w.oldID); err != nil {
				w.Fatal(err)
			}
			w.Await("the word of the person is taken", func() bool {
				return w.TryDecide(name, rotation.KeyRevoked, rotation.DecisionMessage{By: "a person"}) == nil
			})
			w.replaced(run)
			if got := w.Cloud.PublishedKeys()[scenario.Path(scenario.Alias, name)]; got != id {
				w.Errorf("applications read %s, and the person made %s", got, id)
			}
		},
	},
	{
		sentence: "a schedule, and a key that conflicts with another",
		in:       []string{"Due", "Conflict"},
		setup: func(_ *testing.T, o *testenv.Options) {
			o.Scenario.Policy = append(o.Scenario.Policy, "period: 2s")
			o.Edit = func(yaml string) string {
				return strings.Replace(yaml, "  - name: "+name+"\n", "  - name: "+name+"\n    conflicts_with: [other]\n", 1)
			}
		},
		play: func(w *env, stop func(string)) {
			made := time.Now()
			w.Await("the key is due", func() bool { return time.Since(made) > 2*time.Second })
			_, err := w.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{ID: workflows.DispatchID(name), TaskQueue: workflows.TaskQueue},
				workflows.Dispatch, workflows.DispatchInput{Key: w.Key(name), Install: "scene1"})
			if err != nil {
				w.Fatal(err)
			}
			stop("Due")
			stop("Conflict")
			w.replaced(w.Client.GetWorkflow(context.Background(), workflows.ID(name), ""))
		},
	},
	{
		sentence: "a report of a leak",
		in:       []string{"Identify", "StartRotation"},
		play: func(w *env, stop func(string)) {
			taken, err := client.New(w.Client).StartTrigger(context.Background(), workflows.TriggerInput{
				Source: "scanner", Delivery: "1", Fingerprints: []string{w.First(name).Fingerprint()}, Leaked: true, Why: "in a repository",
			})
			if err != nil || !taken {
				w.Fatalf("%v, %v", taken, err)
			}
			stop("Identify")
			stop("StartRotation")
			w.Await("the rotation begins", func() bool { _, err := w.Status(name); return err == nil })
			w.replaced(w.Client.GetWorkflow(context.Background(), workflows.ID(name), ""))
		},
	},
	{
		sentence: "an emergency",
		in:       []string{"RaiseAll", "Statuses"},
		play: func(w *env, stop func(string)) {
			err := client.New(w.Client).StartEmergency(context.Background(), workflows.EmergencyInput{
				ID: "em", Keys: []string{name}, Message: rotation.DecisionMessage{By: "test", Why: "leaked"},
			})
			if err != nil {
				w.Fatal(err)
			}
			stop("RaiseAll")
			stop("Statuses")
			if p, err := client.New(w.Client).WaitEmergency(context.Background(), "em"); err != nil || !p.Complete() {
				w.Errorf("%+v, %v", p, err)
			}
			w.replaced(w.Client.GetWorkflow(context.Background(), workflows.ID(name), ""))
		},
	},
	{
		sentence: "signatures",
		in:       []string{"Signers"},
		setup: func(t *testing.T, o *testenv.Options) {
			for _, operator := range operators {
				o.Scenario.Operators = append(o.Scenario.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", operator, signed.Line(sshKey(t, operator).PublicKey())))
			}
			o.Scenario.Policy = append(o.Scenario.Policy, "four_eyes: true")
			o.Own = &devserver.Options{} // what is signed names the namespace, and histories are replayed in the default one
		},
		play: func(w *env, stop func(string)) {
			run := w.Rotate(name, rotation.Manual)
			stop("Signers") // the worker looks who they are as soon as grace begins
			s := w.AwaitStatus(name, "something to sign", func(s rotation.Status) bool {
				return s.Signing != nil && slices.Contains(s.Accepts, rotation.Approve)
			})
			for _, operator := range operators {
				m := rotation.DecisionMessage{ID: operator, By: operator, Why: "dashboards", SignedAt: time.Now()}
				var err error
				if m.Signature, err = signed.Sign(sshKey(w, operator), signed.Text(s.Signing.Question, m)); err != nil {
					w.Fatal(err)
				}
				w.Decide(name, rotation.Approve, m)
			}
			w.replaced(run)
		},
	},
}

var operators = []string{"alice", "bob"}

// sshKey is a person's SSH key, always the same for the same name.
func sshKey(t testing.TB, name string) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte((name + strings.Repeat(".", 32))[:32])))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// held are the requests in whose middle the worker is told to stop, where it is not just the first one.
var held = map[string]simcloud.Fault{
	"Create": {Service: "google-iam", Method: "UploadServiceAccountKey"},
	"Revoke": {Service: "google-iam", Method: "DeleteServiceAccountKey"},
}

// irrevocable are the activities that are tried without the switch.
var irrevocable = []string{"Create", "Promote", "Revoke"}

// silent are the activities that make no request to providers, stores or channels.
var silent = []string{"Guard", "Conflict", "RaiseAll", "Statuses", "StartRotation", "Signers"}

func TestAWorkerThatIsToldToStopInAnyActivityFinishesItAndTheNextOneGoesOn(t *testing.T) {
	t.Parallel()
	for _, s := range some(1, stories...) {
		t.Run(s.sentence, func(t *testing.T) {
			t.Parallel()
			o := testenv.Options{SimOptions: testenv.SimOptions{Scenario: scenario.Options{Policy: slices.Clone(fast)}}}
			if s.setup != nil {
				s.setup(t, &o)
			}
			var old string
			o.Keys = func(sc *scenario.Scenario) (err error) {
				add := sc.Google
				if s.openAI {
					add = sc.OpenAIKey
				}
				if old, err = add(name, scenario.Local, scenario.Alias); err == nil && o.Edit != nil {
					_, err = sc.Google("other", scenario.Latest)
				}
				return err
			}
			w := newEnv(t, o)
			w.oldID = old
			w.others = len(w.Config.Keys) - 1
			in := slices.DeleteFunc(slices.Clone(s.in), func(a string) bool { return !all() && !slices.Contains(irrevocable, a) })
			w.StartProcess(testenv.ProcessOptions{Pause: in})
			n := 0
			s.play(w, func(activity string) {
				if slices.Contains(in, activity) {
					n++
					w.stopIn(activity, n)
				}
			})
			if got := w.Stopped(); n == 0 || n != len(in) || got < n {
				t.Errorf("the worker was told to stop in %d of %d activities, and %d times it ended by itself", n, len(in), got)
			}
		})
	}
}

// stopIn tells the worker, for the n-th time, to stop while it runs an activity, and lets it go on with that when it has heard.
func (w *env) stopIn(activity string, n int) {
	w.Helper()
	w.AwaitPaused(activity)
	if slices.Contains(silent, activity) {
		w.TerminateWorker()
		w.AwaitStopping(n)
		w.Resume(activity)
		return
	}
	f := held[activity]
	f.Kind, f.Times, f.Reached, f.Release = simcloud.Hold, 1, make(chan struct{}), make(chan struct{})
	defer w.Cloud.Inject(f)()
	w.Resume(activity)
	select {
	case <-f.Reached:
	case <-time.After(time.Minute):
		w.Fatalf("%s makes no request", activity)
	}
	w.TerminateWorker()
	w.AwaitStopping(n)
	close(f.Release)
}

// firstTries checks that no activity was tried twice: what a worker had begun when it was told to stop, it has finished.
func (w *env) firstTries(run sdkclient.WorkflowRun) {
	w.Helper()
	events, err := w.Events(run.GetID(), run.GetRunID())
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range events {
		if s := e.GetActivityTaskStartedEventAttributes(); s.GetAttempt() > 1 {
			w.Errorf("an activity was tried %d times; its last failure: %v", s.GetAttempt(), s.GetLastFailure())
		}
	}
}

// registered collects the names of activities.
type registered struct{ names []string }

func (r *registered) RegisterActivityWithOptions(_ any, o activity.RegisterOptions) {
	r.names = append(r.names, o.Name)
}

func TestTheStoriesOfStoppedWorkersHaveEveryActivity(t *testing.T) {
	t.Parallel()
	sim := testenv.StartSim(t, testenv.SimOptions{})
	var r registered
	rotations := client.New(nil)
	err := errors.Join(sim.Setup.RegisterRotation(&r, rotations),
		activities.RegisterLaunch(&r, &activities.Launcher{Environment: sim.Setup.Environment, Starter: rotations, Index: &activities.Index{}}))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, s := range stories {
		told = append(told, s.in...)
	}
	slices.Sort(told)
	slices.Sort(r.names)
	if !slices.Equal(told, r.names) {
		t.Errorf("stories are told of\n%v, and there are\n%v", told, r.names)
	}
}
