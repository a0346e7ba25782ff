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
	// maxTries is how often an emergency that its rotation does not take is raised in vain. At the intervals of the
	// fleet that is more than a minute.
	maxTries = 10
	// raiseBatch is how many rotations one activity raises, so that the first ones are seen soon.
	raiseBatch = 100
	// slotPatience is how long a rotation that does not get on keeps others from beginning: a provider that is down
	// must not hold up the keys of all others.
	slotPatience = 3 * time.Minute
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
	Message rotation.Message `json:"message"`
	// Concurrency is how many rotations are under way at most; those that wait for a person or for their grace period
	// do not count. 0 is FleetConcurrency.
	Concurrency int `json:"concurrency,omitempty"`
	// Resume is set by the workflow itself when its history grew too long.
	Resume *Fleet `json:"resume,omitempty"`
}

// Emergency rotates many keys now, most important first as its input orders them, and is done when every rotation is.
// It holds no rotation up when it ends: a cancel stops the raising of further ones, and nothing else.
func Emergency(ctx workflow.Context, in EmergencyInput) (Fleet, error) {
	if in.Resume != nil && workflow.GetInfo(ctx).ContinuedExecutionRunID == "" {
		return Fleet{}, rejected("an emergency cannot be started in the middle: leave resume out")
	}
	if in.Concurrency <= 0 {
		in.Concurrency = FleetConcurrency
	}
	in.Message.ID = in.ID
	return newFleet(ctx, in).run()
}

func rejected(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), "Rejected", nil)
}

// fleet is one run of Emergency.
type fleet struct {
	Fleet
	in   EmergencyInput
	root workflow.Context
	// ctx is not cancelled with the workflow: what was raised must be written down.
	ctx workflow.Context
	// idle is how often in a row nothing had changed.
	idle int
}

func newFleet(root workflow.Context, in EmergencyInput) *fleet {
	ctx, _ := workflow.NewDisconnectedContext(root)
	f := &fleet{in: in, root: root}
	f.ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: 10 * time.Second, RetryPolicy: steadfast(), Priority: Priority(rotation.Emergency),
	})
	if in.Resume != nil {
		f.Fleet = *in.Resume
	} else {
		f.Fleet = Fleet{ID: in.ID, By: in.Message.By, Why: in.Message.Why, StartedAt: workflow.Now(ctx)}
		for _, k := range in.Keys {
			f.Rows = append(f.Rows, Row{Key: k, State: Queued})
		}
	}
	// It fails only for a handler of the wrong shape.
	_ = workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() (Fleet, error) { return f.Fleet, nil },
		workflow.QueryHandlerOptions{Description: "How each key of the emergency stands, and how many stand how."})
	return f
}

// steadfast is for the fleet's own steps: only Temporal can fail them, or a worker that dies, and both come back.
func steadfast() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second, NonRetryableErrorTypes: needsAPerson}
}

func (f *fleet) run() (Fleet, error) {
	if f.in.Resume == nil {
		if err := f.check(); err != nil {
			return Fleet{}, err
		}
	}
	for {
		raised, err := f.raise()
		if err != nil {
			return f.Fleet, err
		}
		followed, err := f.follow()
		if err != nil {
			return f.Fleet, err
		}
		f.show()
		if f.over() {
			return f.finish()
		}
		if workflow.GetInfo(f.ctx).GetContinueAsNewSuggested() && f.root.Err() == nil {
			return Fleet{}, f.continueAsNew()
		}
		f.pause(raised || followed)
	}
}

// check refuses what cannot be done, before anything is.
func (f *fleet) check() error {
	keys := slices.Clone(f.in.Keys)
	slices.Sort(keys)
	switch {
	case f.in.ID == "":
		return rejected("an emergency needs an id")
	case len(keys) == 0:
		return rejected("an emergency needs at least one key")
	case len(keys) > MaxFleet:
		return rejected("%d keys are too many for one emergency; it takes %d. Raise several, most exposed first", len(keys), MaxFleet)
	case len(slices.Compact(keys)) < len(f.in.Keys):
		return rejected("a key stands twice in this emergency")
	case len(f.in.Message.Leaked) > 0 && len(keys) > 1:
		return rejected("values that leaked can be named for one key only; leave them out to replace every value made before now")
	}
	if err := (rotation.Situation{}).Check(rotation.RaiseEmergency, f.in.Message); err != nil {
		return rejected("%s", err)
	}
	return nil
}

// raise starts, or joins, the rotations of the next keys, as many as there is room for. It tells whether any began.
func (f *fleet) raise() (began bool, err error) {
	next := f.next()
	if len(next) == 0 {
		return false, nil
	}
	in := activities.RaiseAllInput{Message: f.in.Message}
	for _, i := range next {
		in.Names = append(in.Names, f.Rows[i].Key)
	}
	var out []activities.Raised
	ctx := f.summary(fmt.Sprintf("raise the emergency for %d key(s)", len(next)))
	if err := workflow.ExecuteActivity(ctx, acts.RaiseAll, in).Get(ctx, &out); err != nil {
		return false, err
	}
	if len(out) != len(next) {
		return false, rejected("the worker answered for %d of %d keys", len(out), len(next))
	}
	for n, i := range next {
		if f.Rows[i].raised(out[n]) {
			began = true
		}
	}
	return began, nil
}

// next are the rows to raise now: the first ones of the queue that there is room for. A row that was refused comes
// again after the others.
func (f *fleet) next() []int {
	if f.root.Err() != nil {
		return nil
	}
	room := min(f.in.Concurrency, raiseBatch)
	room = min(room, f.in.Concurrency-f.busy())
	var fresh, again []int
	for i := range f.Rows {
		switch r := &f.Rows[i]; {
		case r.State != Queued:
		case r.Tries == 0:
			fresh = append(fresh, i)
		default:
			again = append(again, i)
		}
	}
	all := append(fresh, again...)
	return all[:max(0, min(room, len(all)))]
}

// busy is how many rotations keep others from beginning.
func (f *fleet) busy() (n int) {
	now := workflow.Now(f.ctx)
	for i := range f.Rows {
		r := &f.Rows[i]
		if r.State == UnderWay && r.Phase != rotation.Grace && now.Sub(r.ChangedAt) < slotPatience {
			n++
		}
	}
	return n
}

// follow looks at the rotations that have begun. It tells whether any has got on.
func (f *fleet) follow() (changed bool, err error) {
	in := activities.StandingsInput{ID: f.ID}
	var asked []int
	for i := range f.Rows {
		if r := &f.Rows[i]; r.State == UnderWay || r.State == Waiting {
			asked, in.Names = append(asked, i), append(in.Names, r.Key)
		}
	}
	if len(asked) == 0 {
		return false, nil
	}
	var out []activities.FleetStanding
	ctx := f.summary(fmt.Sprintf("look how %d rotation(s) stand", len(asked)))
	if err := workflow.ExecuteActivity(ctx, acts.Standings, in).Get(ctx, &out); err != nil {
		return false, err
	}
	if len(out) != len(asked) {
		return false, rejected("the worker answered for %d of %d keys", len(out), len(asked))
	}
	for n, i := range asked {
		if f.Rows[i].stands(out[n], workflow.Now(ctx)) {
			changed = true
		}
	}
	return changed, nil
}

func (f *fleet) summary(text string) workflow.Context {
	ao := workflow.GetActivityOptions(f.ctx)
	ao.Summary = text
	return workflow.WithActivityOptions(f.ctx, ao)
}

// over tells whether nothing is left to do here, or somebody has cancelled.
func (f *fleet) over() bool {
	if f.root.Err() != nil {
		f.Cancelled = true
		return true
	}
	return !slices.ContainsFunc(f.Rows, func(r Row) bool { return r.open() })
}

// pause waits until it is time to look again; a cancel ends it.
func (f *fleet) pause(changed bool) {
	f.idle++
	if changed {
		f.idle = 0
	}
	d := min(time.Second<<min(f.idle, 4), 15*time.Second)
	timer := workflow.NewTimerWithOptions(f.root, d, workflow.TimerOptions{Summary: "until the next look; who is waited for stands under User Metadata"})
	_ = timer.Get(f.root, nil)
}

// continueAsNew goes on in a new run, with the rows in the place of the names.
func (f *fleet) continueAsNew() error {
	in := f.in
	state := f.Fleet
	in.Keys, in.Resume = nil, &state
	return workflow.NewContinueAsNewError(f.ctx, Emergency, in)
}

// finish makes the result, and puts its summary where it can be read without a worker.
func (f *fleet) finish() (Fleet, error) {
	for i := range f.Rows {
		if f.Rows[i].State == Queued {
			f.Rows[i].State = NotRaised
		}
	}
	f.EndedAt = workflow.Now(f.ctx)
	f.Outcome = f.Sentence()
	f.show()
	_ = workflow.UpsertMemo(f.ctx, map[string]any{ResultMemo: f.Summary()})
	return f.Fleet, nil
}
