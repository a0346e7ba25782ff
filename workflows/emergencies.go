package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

const (
	// MaxFleet is the most keys that one emergency takes: its rows travel in one message.
	MaxFleet = 5000
	// FleetConcurrency is how many rotations an emergency keeps under way where nobody says.
	FleetConcurrency = 50
	// maxRaises is how often an emergency is raised anew for a key whose rotation was ended from outside.
	maxRaises = 3
	// maxTries is how often an emergency that its rotation does not take is raised in vain. At the intervals that tryAgain
	// sets that is more than a minute.
	maxTries = 10
	// raiseBatch is how many rotations one activity raises, so that the first ones are seen soon.
	raiseBatch = 100
	// slotPatience is how long a rotation that does not get on keeps others from beginning: a provider that is down
	// must not hold up the keys of all others.
	slotPatience = 3 * time.Minute
	// slotsTogether is how much longer others wait, so that rotations which began together make room together.
	slotsTogether = 5 * time.Second
	// maxInterval is the longest time between two looks, or two tries.
	maxInterval = 15 * time.Second
)

// ProgressQuery is the query that an emergency answers with a Fleet.
const ProgressQuery = "progress"

// EmergencyID is the workflow id of an emergency.
func EmergencyID(id string) string { return "emergency/" + id }

// EmergencyInput raises one emergency over many keys.
type EmergencyInput struct {
	// ID names the emergency; each rotation knows its decision by it, which makes every repetition harmless.
	ID string `json:"id"`
	// Keys are names of keys of the worker's rekey.yaml, in the order in which they are raised.
	Keys []string `json:"keys"`
	// Message is what each rotation is told; its ID is the emergency's.
	Message rotation.DecisionMessage `json:"message"`
	// Concurrency is how many rotations are under way at most; those that wait for a person or for their grace period
	// do not count. 0 is FleetConcurrency.
	Concurrency int `json:"concurrency,omitempty"`
	// Resume is set by the workflow itself when its history grew too long.
	Resume *EmergencyProgress `json:"resume,omitempty"`

	received received
}

// Emergency rotates many keys now, most important first as its input orders them, and is done when every rotation is.
// It holds no rotation up when it ends: a cancel stops the raising of further ones, and nothing else.
func Emergency(ctx workflow.Context, in EmergencyInput) (EmergencyProgress, error) {
	if err := in.received.check(ctx, maxFleetInput, in.Resume != nil); err != nil {
		return EmergencyProgress{}, err
	}
	if err := provenOrigin(ctx, "an emergency", in.Resume != nil); err != nil {
		return EmergencyProgress{}, err
	}
	if in.Concurrency <= 0 {
		in.Concurrency = FleetConcurrency
	}
	in.Message.ID = in.ID
	return newEmergencyRun(ctx, in).run()
}

func rejected(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), "Rejected", nil)
}

// emergencyRun is one run of Emergency.
type emergencyRun struct {
	EmergencyProgress
	in   EmergencyInput
	root workflow.Context
	// ctx is not cancelled with the workflow: what was raised must be written down.
	ctx workflow.Context
	// rows are where the rows of the keys stand.
	rows map[string]int
	// tryAgain is when rows that were refused may be raised again.
	tryAgain time.Time
	// pace keeps news that come one after another from being asked for one by one: the last look is not long ago.
	pace bool

	overheard *ignoredSignals
}

func newEmergencyRun(root workflow.Context, in EmergencyInput) *emergencyRun {
	ctx, _ := workflow.NewDisconnectedContext(root)
	f := &emergencyRun{in: in, root: root}
	f.ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: 10 * time.Second, RetryPolicy: retryUntilDone(), Priority: Priority(rotation.Emergency),
	})
	if in.Resume != nil {
		f.EmergencyProgress = *in.Resume
	} else {
		f.EmergencyProgress = EmergencyProgress{ID: in.ID, By: in.Message.By, Why: in.Message.Why, StartedAt: workflow.Now(ctx)}
		for _, k := range in.Keys {
			f.Keys = append(f.Keys, KeyProgress{Key: k, State: Queued})
		}
	}
	f.overheard = ignoreSignals(ctx, f.refreshDetails)
	// It fails only for a handler of the wrong shape.
	_ = workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() (EmergencyProgress, error) { return f.EmergencyProgress, nil },
		workflow.QueryHandlerOptions{Description: "How each key of the emergency stands, and how many stand how."})
	return f
}

// retryUntilDone is for the fleet's own steps: only Temporal can fail them, or a worker that dies, and both come back.
func retryUntilDone() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: maxInterval, NonRetryableErrorTypes: needsAPerson}
}

func (f *emergencyRun) run() (EmergencyProgress, error) {
	if f.in.Resume == nil {
		if err := f.check(); err != nil {
			return EmergencyProgress{}, err
		}
	}
	for {
		if err := f.raise(); err != nil {
			return f.EmergencyProgress, err
		}
		f.refreshDetails()
		if f.over() {
			// Once more, so that the result of one that was cancelled is of today.
			if err := f.follow(); err != nil {
				return f.EmergencyProgress, err
			}
			return f.finish()
		}
		if workflow.GetInfo(f.ctx).GetContinueAsNewSuggested() {
			return EmergencyProgress{}, f.continueAsNew()
		}
		if err := f.wait(); err != nil {
			return f.EmergencyProgress, err
		}
	}
}

// check refuses what cannot be done, before anything is.
func (f *emergencyRun) check() error {
	keys := slices.Clone(f.in.Keys)
	slices.Sort(keys)
	switch {
	case f.in.ID == "":
		return rejected("an emergency needs an ID")
	case len(keys) == 0:
		return rejected("an emergency needs at least one key")
	case len(keys) > MaxFleet:
		return rejected("%d keys are too many for one emergency; it takes %d. Raise several, most exposed first", len(keys), MaxFleet)
	case len(slices.Compact(keys)) < len(f.in.Keys):
		return rejected("a key is listed twice in this emergency")
	case len(f.in.Message.Leaked) > 0 && len(keys) > 1:
		return rejected("values that leaked can be named for one key only; leave them out to replace every value made before now")
	}
	if err := (rotation.DecisionContext{}).Check(rotation.RaiseEmergency, f.in.Message); err != nil {
		return rejected("%s", err)
	}
	return nil
}

// raise starts, or joins, the rotations of the next keys, as many as there is room for.
func (f *emergencyRun) raise() error {
	next := f.next()
	if len(next) == 0 {
		return nil
	}
	in := activities.RaiseAllInput{Message: f.in.Message}
	for _, i := range next {
		in.Names = append(in.Names, f.Keys[i].Key)
	}
	var out []activities.Raised
	ctx := f.summary(f.ctx, fmt.Sprintf("raise the emergency for %d key(s)", len(next)))
	if err := workflow.ExecuteActivity(ctx, activities.RaiseAllName, in).Get(ctx, &out); err != nil {
		return err
	}
	if len(out) != len(next) {
		return rejected("the worker answered for %d of %d keys", len(out), len(next))
	}
	for n, i := range next {
		f.Keys[i].applyRaised(out[n])
	}
	f.setTryAgain()
	return nil
}

// setTryAgain lets the rows that were refused wait, the longer the oftener that was, once those that had waited have had
// their turn.
func (f *emergencyRun) setTryAgain() {
	now := workflow.Now(f.ctx)
	if now.Before(f.tryAgain) {
		return
	}
	least := maxTries
	for i := range f.Keys {
		if r := &f.Keys[i]; r.State == Queued && r.Tries > 0 {
			least = min(least, r.Tries)
		}
	}
	if least < maxTries {
		f.tryAgain = now.Add(min(time.Second<<min(least, 4), maxInterval))
	}
}

// next are the rows to raise now: the first ones of the queue that there is room for. A row that was refused comes
// again after the others, and not at once.
func (f *emergencyRun) next() []int {
	if f.root.Err() != nil {
		return nil
	}
	room := min(f.in.Concurrency, raiseBatch)
	room = min(room, f.in.Concurrency-f.busy())
	wait := workflow.Now(f.ctx).Before(f.tryAgain)
	var fresh, again []int
	for i := range f.Keys {
		switch r := &f.Keys[i]; {
		case r.State != Queued:
		case r.Tries == 0:
			fresh = append(fresh, i)
		case !wait:
			again = append(again, i)
		}
	}
	all := append(fresh, again...)
	return all[:max(0, min(room, len(all)))]
}

// busy is how many rotations keep others from beginning.
func (f *emergencyRun) busy() (n int) {
	for i := range f.Keys {
		if workflow.Now(f.ctx).Before(f.Keys[i].busyUntil()) {
			n++
		}
	}
	return n
}

func (f *emergencyRun) summary(ctx workflow.Context, text string) workflow.Context {
	ao := workflow.GetActivityOptions(ctx)
	ao.Summary = text
	return workflow.WithActivityOptions(ctx, ao)
}

// over reports whether nothing is left to do here, or somebody has cancelled.
func (f *emergencyRun) over() bool {
	if f.root.Err() != nil {
		f.Cancelled = true
		return true
	}
	return !slices.ContainsFunc(f.Keys, func(r KeyProgress) bool { return r.open() })
}

// continueAsNew goes on in a new run, with the rows in the place of the names.
func (f *emergencyRun) continueAsNew() error {
	in := f.in
	f.takeSignals()
	state := f.EmergencyProgress
	in.Keys, in.Resume = nil, &state
	return workflow.NewContinueAsNewError(f.ctx, EmergencyType, in)
}

// finish makes the result, and puts its summary where it can be read without a worker.
func (f *emergencyRun) finish() (EmergencyProgress, error) {
	for i := range f.Keys {
		if f.Keys[i].State == Queued {
			f.Keys[i].State = NotRaised
		}
	}
	f.EndedAt = workflow.Now(f.ctx)
	f.Outcome = f.Sentence()
	f.refreshDetails()
	_ = workflow.UpsertMemo(f.ctx, map[string]any{ResultMemo: f.Summary()})
	return f.EmergencyProgress, nil
}
