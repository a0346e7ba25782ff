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
	// slotPatience is how long a blocked rotation keeps others from beginning: a provider that is down
	// must not hold up the keys of all others.
	slotPatience = 3 * time.Minute
	// slotsTogether is how much longer others wait, so that rotations which began together make room together.
	slotsTogether = 5 * time.Second
	// maxInterval is the longest time between two looks, or two tries.
	maxInterval = 15 * time.Second
)

// ProgressQuery is the query that an emergency answers with an EmergencyProgress.
const ProgressQuery = "progress"

// EmergencyID is the workflow id of an emergency.
func EmergencyID(id string) string { return "emergency/" + id }

// EmergencyInput raises one emergency over many keys.
type EmergencyInput struct {
	// ID names the emergency; each rotation knows its decision by it, which makes every repetition harmless.
	ID string `json:"id"`
	// Keys are names of keys of the worker's rekey.yaml, in the order in which they are raised.
	Keys []string `json:"keys"`
	// Message is what each rotation gets; its ID is the emergency's.
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
	// rows are the indexes of the keys' rows.
	rows map[string]int
	// tryAgain is when rows that were refused may be raised again.
	tryAgain time.Time
	// pace keeps news that come one after another from being asked for one by one: the last look is not long ago.
	pace bool

	ignored *ignoredSignals
}

func newEmergencyRun(root workflow.Context, in EmergencyInput) *emergencyRun {
	ctx, _ := workflow.NewDisconnectedContext(root)
	e := &emergencyRun{in: in, root: root}
	e.ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: 10 * time.Second, RetryPolicy: retryUntilDone(), Priority: Priority(rotation.Emergency),
	})
	if in.Resume != nil {
		e.EmergencyProgress = *in.Resume
	} else {
		e.EmergencyProgress = EmergencyProgress{ID: in.ID, By: in.Message.By, Why: in.Message.Why, StartedAt: workflow.Now(ctx)}
		for _, k := range in.Keys {
			e.Keys = append(e.Keys, KeyProgress{Key: k, State: Queued})
		}
	}
	e.ignored = ignoreSignals(ctx, e.refreshDetails)
	// It fails only for a handler of the wrong shape.
	_ = workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() (EmergencyProgress, error) { return e.EmergencyProgress, nil },
		workflow.QueryHandlerOptions{Description: "The progress of each key of the emergency, and how many are in which state."})
	return e
}

// retryUntilDone is for the emergency's own steps: only Temporal can fail them, or a worker that dies, and both come back.
func retryUntilDone() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: maxInterval, NonRetryableErrorTypes: needsAPerson}
}

func (e *emergencyRun) run() (EmergencyProgress, error) {
	if e.in.Resume == nil {
		if err := e.check(); err != nil {
			return EmergencyProgress{}, err
		}
	}
	for {
		if err := e.raise(); err != nil {
			return e.EmergencyProgress, err
		}
		e.refreshDetails()
		if e.over() {
			// Once more, so that the result of one that was cancelled is of today.
			if err := e.follow(); err != nil {
				return e.EmergencyProgress, err
			}
			return e.finish()
		}
		if workflow.GetInfo(e.ctx).GetContinueAsNewSuggested() {
			return EmergencyProgress{}, e.continueAsNew()
		}
		if err := e.wait(); err != nil {
			return e.EmergencyProgress, err
		}
	}
}

// check refuses what cannot be done, before anything is.
func (e *emergencyRun) check() error {
	keys := slices.Clone(e.in.Keys)
	slices.Sort(keys)
	switch {
	case e.in.ID == "":
		return rejected("an emergency needs an ID")
	case len(keys) == 0:
		return rejected("an emergency needs at least one key")
	case len(keys) > MaxFleet:
		return rejected("%d keys are too many for one emergency; it takes %d. Raise several, most exposed first", len(keys), MaxFleet)
	case len(slices.Compact(keys)) < len(e.in.Keys):
		return rejected("a key is listed twice in this emergency")
	case len(e.in.Message.Leaked) > 0 && len(keys) > 1:
		return rejected("values that leaked can be named for one key only; leave them out to replace every value made before now")
	}
	if err := (rotation.DecisionContext{}).Check(rotation.RaiseEmergency, e.in.Message); err != nil {
		return rejected("%s", err)
	}
	return nil
}

// raise starts, or joins, the rotations of the next keys, as many as there is room for.
func (e *emergencyRun) raise() error {
	next := e.next()
	if len(next) == 0 {
		return nil
	}
	in := activities.RaiseAllInput{Message: e.in.Message}
	for _, i := range next {
		in.Names = append(in.Names, e.Keys[i].Key)
	}
	var out []activities.Raised
	ctx := e.summary(e.ctx, fmt.Sprintf("raise the emergency for %d key(s)", len(next)))
	if err := workflow.ExecuteActivity(ctx, activities.RaiseAllName, in).Get(ctx, &out); err != nil {
		return err
	}
	if len(out) != len(next) {
		return rejected("the worker answered for %d of %d keys", len(out), len(next))
	}
	for n, i := range next {
		e.Keys[i].applyRaised(out[n])
	}
	e.setTryAgain()
	return nil
}

// setTryAgain lets the rows that were refused wait, the longer the oftener that was, once those that had waited have had
// their turn.
func (e *emergencyRun) setTryAgain() {
	now := workflow.Now(e.ctx)
	if now.Before(e.tryAgain) {
		return
	}
	least := maxTries
	for i := range e.Keys {
		if r := &e.Keys[i]; r.State == Queued && r.Tries > 0 {
			least = min(least, r.Tries)
		}
	}
	if least < maxTries {
		e.tryAgain = now.Add(min(time.Second<<min(least, 4), maxInterval))
	}
}

// next are the rows to raise now: the first ones of the queue that there is room for. A row that was refused comes
// again after the others, and not at once.
func (e *emergencyRun) next() []int {
	if e.root.Err() != nil {
		return nil
	}
	room := min(e.in.Concurrency, raiseBatch)
	room = min(room, e.in.Concurrency-e.busy())
	wait := workflow.Now(e.ctx).Before(e.tryAgain)
	var fresh, again []int
	for i := range e.Keys {
		switch r := &e.Keys[i]; {
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
func (e *emergencyRun) busy() (n int) {
	for i := range e.Keys {
		if workflow.Now(e.ctx).Before(e.Keys[i].busyUntil()) {
			n++
		}
	}
	return n
}

func (e *emergencyRun) summary(ctx workflow.Context, text string) workflow.Context {
	ao := workflow.GetActivityOptions(ctx)
	ao.Summary = text
	return workflow.WithActivityOptions(ctx, ao)
}

// over reports whether nothing is left to do here, or somebody has cancelled.
func (e *emergencyRun) over() bool {
	if e.root.Err() != nil {
		e.Cancelled = true
		return true
	}
	return !slices.ContainsFunc(e.Keys, func(r KeyProgress) bool { return r.open() })
}

// continueAsNew goes on in a new run, with the rows in the place of the names.
func (e *emergencyRun) continueAsNew() error {
	in := e.in
	e.takeSignals()
	state := e.EmergencyProgress
	in.Keys, in.Resume = nil, &state
	return workflow.NewContinueAsNewError(e.ctx, EmergencyType, in)
}

// finish makes the result, and puts its summary where it can be read without a worker.
func (e *emergencyRun) finish() (EmergencyProgress, error) {
	for i := range e.Keys {
		if e.Keys[i].State == Queued {
			e.Keys[i].State = NotRaised
		}
	}
	e.EndedAt = workflow.Now(e.ctx)
	e.Outcome = e.Sentence()
	e.refreshDetails()
	_ = workflow.UpsertMemo(e.ctx, map[string]any{ResultMemo: e.Summary()})
	return e.EmergencyProgress, nil
}
