package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// triggerTimeout is how long a trigger asks again when stores, providers or Temporal do not answer.
const triggerTimeout = 7 * 24 * time.Hour

// TriggerID is the workflow id of a delivery: Temporal takes one of an id.
func TriggerID(source, delivery string) string { return "trigger/" + source + "/" + delivery }

// TriggerInput is a request from outside that was authenticated. It holds no secrets, and has no field for an approval
// or for revoke-first.
type TriggerInput struct {
	// Source is the name of the source in rekey.yaml, Delivery the id of this delivery.
	Source   string `json:"source"`
	Delivery string `json:"delivery"`
	// Keys are names of keys. Without them, Fingerprints say whose value it is.
	Keys []string `json:"keys,omitempty"`
	// Fingerprints are of one value in its possible forms.
	Fingerprints []string `json:"fingerprints,omitempty"`
	// Within are patterns of names: the source may trigger no other key. None means all keys.
	Within []string `json:"within,omitempty"`
	// Leaked makes it an emergency.
	Leaked bool `json:"leaked,omitempty"`
	// Leak names the leak where the same one is reported in several deliveries; empty means the delivery.
	Leak string `json:"leak,omitempty"`
	Why  string `json:"why,omitempty"`

	received received
}

// Triggered is what came of a delivery. It is the workflow's result, and in its memo.
type Triggered struct {
	Source  string               `json:"source"`
	Started []activities.Started `json:"started,omitempty"`
	// Why says in a sentence what was done, and why.
	Why string `json:"why"`
}

// Trigger starts the rotations that a delivery from outside asks for, and ends when they have begun. It fails when for a
// week nobody could say whose value was reported.
func Trigger(ctx workflow.Context, in TriggerInput) (Triggered, error) {
	if err := in.received.check(ctx, maxInput, false); err != nil {
		return Triggered{}, err
	}
	t := &trigger{in: in, since: workflow.GetInfo(ctx).WorkflowStartTime, Triggered: Triggered{Source: in.Source}}
	reason := rotation.Manual
	if in.Leaked {
		reason = rotation.Emergency
	}
	t.ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Minute, HeartbeatTimeout: 20 * time.Second, ScheduleToCloseTimeout: triggerTimeout,
		RetryPolicy: triggerRetry(), Priority: Priority(reason),
	})
	t.ignored = ignoreSignals(ctx, t.refreshDetails)
	return t.run()
}

// triggerRetry is for the steps of a trigger: a report of a leak is not dropped because a store is down.
func triggerRetry() *temporal.RetryPolicy {
	// The patience ends before the attempts do.
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 5 * time.Minute, MaximumAttempts: 3000, NonRetryableErrorTypes: needsAPerson}
}

// trigger is one run of Trigger.
type trigger struct {
	Triggered
	ctx   workflow.Context
	in    TriggerInput
	ended bool
	since time.Time

	ignored *ignoredSignals
}

// refreshDetails puts what happens, and a key in the history, where the Temporal UI shows it.
func (t *trigger) refreshDetails() {
	page := details.Trigger{Searches: len(t.in.Fingerprints) > 0, Patience: triggerTimeout, Ended: t.ended, Why: t.Why, Leak: t.ignored.text()}
	workflow.SetCurrentDetails(t.ctx, page.Render())
}

// rotationRequest is one rotation to start.
type rotationRequest struct{ key, value string }

func (t *trigger) run() (Triggered, error) {
	t.refreshDetails()
	wants, err := t.requests()
	if err != nil {
		return t.Triggered, t.failed("It could not be determined whose value was reported. ", err)
	}
	if err := t.start(wants); err != nil {
		return t.Triggered, t.failed(t.Why+"Not every rotation could be started. ", err)
	}
	return t.finish()
}

// requests returns the rotations to start; if there are none, Why says why.
func (t *trigger) requests() (wants []rotationRequest, err error) {
	if len(t.in.Fingerprints) == 0 {
		for _, k := range t.in.Keys {
			if !activities.Within(t.in.Within, k) {
				return nil, rejected("the source %s may not trigger the key %s", t.in.Source, k)
			}
			wants = append(wants, rotationRequest{key: k})
		}
		return wants, nil
	}
	ctx := t.summary("find whose value was reported")
	var out activities.Identified
	if err := workflow.ExecuteActivity(ctx, activities.IdentifyName, activities.IdentifyInput{Fingerprints: t.in.Fingerprints, Within: t.in.Within}).Get(ctx, &out); err != nil {
		return nil, err
	}
	name := strings.Join(t.in.Fingerprints, " or ")
	t.Why = "Nothing was started: no key of this worker has the value " + name + " in a store."
	for _, f := range out.Found {
		if !f.Live && t.in.Leaked {
			t.Why = fmt.Sprintf("Nothing was started: the value %s of %s is no longer live.", f.Value, f.Key)
			continue
		}
		wants = append(wants, rotationRequest{key: f.Key, value: f.Value})
	}
	return wants, nil
}

// start starts the rotations, all at once: one that cannot be started does not keep the others from it.
func (t *trigger) start(wants []rotationRequest) (failed error) {
	var starts []workflow.Future
	for _, w := range wants {
		in := activities.StartInput{Key: w.key, Since: t.since, By: "webhook " + t.in.Source, Why: t.in.Why, Leaked: t.in.Leaked, ID: t.leak(w)}
		if t.in.Leaked {
			in.Value = w.value
		}
		starts = append(starts, workflow.ExecuteActivity(t.summary("start the rotation of "+w.key), activities.StartRotationName, in))
	}
	var done []string
	for i, s := range starts {
		var out activities.Started
		if err := s.Get(t.ctx, &out); err != nil {
			failed = err
			continue
		}
		t.Started = append(t.Started, out)
		done = append(done, wants[i].key+": "+out.Done)
	}
	if len(done) > 0 {
		t.Why = strings.Join(done, " ")
	}
	if failed != nil && t.Why != "" {
		t.Why += " "
	}
	return failed
}

// leak names the leak: the same value, reported by several senders or several times, is one leak.
func (t *trigger) leak(w rotationRequest) string {
	switch {
	case w.value != "":
		return "leak/" + w.value
	case t.in.Leak != "":
		return t.in.Leak
	}
	return TriggerID(t.in.Source, t.in.Delivery)
}

func (t *trigger) summary(text string) workflow.Context {
	ao := workflow.GetActivityOptions(t.ctx)
	ao.Summary = details.Escape(text)
	return workflow.WithActivityOptions(t.ctx, ao)
}

// failed makes the failure say what a person should know; a cancel stays one.
func (t *trigger) failed(what string, err error) error {
	if temporal.IsCanceledError(err) {
		return err
	}
	f := classify(err)
	return temporal.NewNonRetryableApplicationError(t.ignored.addTo(what+f.text), string(f.class), nil)
}

// finish puts the result where it can be read without a worker, and where the Temporal UI shows it.
func (t *trigger) finish() (Triggered, error) {
	t.ended = true
	t.refreshDetails()
	t.Why = t.ignored.addTo(t.Why)
	_ = workflow.UpsertMemo(t.ctx, map[string]any{ResultMemo: t.Triggered})
	return t.Triggered, nil
}
