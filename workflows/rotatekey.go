package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// Input starts a rotation: the key spec and why. It holds no secrets and no endpoints.
type Input struct {
	Key    rotation.Key    `json:"key"`
	Reason rotation.Reason `json:"reason"`
	// By and Why are for people who read the history; By is a claim.
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// Emergencies say what has leaked, for reason emergency; none means every value made before the start.
	Emergencies []rotation.Decision `json:"emergencies,omitempty"`
	// Round counts the rotations before this one that an emergency cut short in the same workflow, Left is what those
	// left for a person, Decided what people decided there.
	Round   int                 `json:"round,omitempty"`
	Left    []string            `json:"left,omitempty"`
	Decided []rotation.Decision `json:"decided,omitempty"`
	// Lines are what channels were told there.
	Lines []line `json:"lines,omitempty"`
	// Resume is set by the rotation itself when its history grew too long.
	Resume *State `json:"resume,omitempty"`
}

// State is all that a rotation knows. It crosses from one run to the next, and names keys by id and fingerprint.
type State struct {
	// Step is where the rotation is in the diagram. In reverse it goes through verify, promote, grace, … once
	// more, with the keys' roles exchanged.
	Step    rotation.Phase `json:"step"`
	Reverse bool           `json:"reverse,omitempty"`
	// Promoting: the new value may be current in a store.
	Promoting bool `json:"promoting,omitempty"`
	// Irreversible: a key may be gone for good, or there is nothing to go back to.
	Irreversible bool `json:"irreversible,omitempty"`

	// Listed is the phase that the list of rotations shows.
	Listed    rotation.Phase      `json:"listed,omitempty"`
	StartedAt time.Time           `json:"startedAt"`
	Prepared  activities.Prepared `json:"prepared"`
	Old       []activities.Ref    `json:"old,omitempty"`
	New       *activities.Ref     `json:"new,omitempty"`
	Minted    bool                `json:"minted,omitempty"`

	PublishedAt time.Time `json:"publishedAt,omitzero"`
	GraceUntil  time.Time `json:"graceUntil,omitzero"`
	// Recheck is the present interval of the health checks in grace, Refusals how often in a row the new key
	// was refused there.
	Recheck  time.Duration `json:"recheck,omitempty"`
	Refusals int           `json:"refusals,omitempty"`
	// Disabled: the old keys are disabled at the provider, until SoakUntil.
	Disabled  bool      `json:"disabled,omitempty"`
	SoakUntil time.Time `json:"soakUntil,omitzero"`
	RevokedAt time.Time `json:"revokedAt,omitzero"`

	// PatienceUntil ends the patience of a step with something that takes a moment; Polls counts the questions.
	PatienceUntil time.Time `json:"patienceUntil,omitzero"`
	Polls         int       `json:"polls,omitempty"`

	// Leaks are the emergencies that this rotation serves, Follow those that it stops for so that another one can.
	Leaks  []rotation.Decision `json:"leaks,omitempty"`
	Follow []rotation.Decision `json:"follow,omitempty"`
	// Contained: what leaked was taken away before there was a new key. ContainThen is what comes after that.
	Contained   bool           `json:"contained,omitempty"`
	ContainThen rotation.Phase `json:"containThen,omitempty"`

	// Question is what a person must approve, After the step that follows, Deadline when the wait ends.
	Question  string         `json:"question,omitempty"`
	About     subject        `json:"about,omitempty"`
	After     rotation.Phase `json:"after,omitempty"`
	Deadline  time.Time      `json:"deadline,omitzero"`
	Reminders int            `json:"reminders,omitempty"`
	// Began is when the present wait for a person began, Extended how much longer it lasts because people asked for it.
	Began    time.Time     `json:"began,omitzero"`
	Extended time.Duration `json:"extended,omitempty"`
	// Lines say what each channel was told, Words counts what was told, HandedOver is the note for whoever comes next.
	Lines      []line             `json:"lines,omitempty"`
	Words      int                `json:"words,omitempty"`
	HandedOver *rotation.Decision `json:"handedOver,omitempty"`
	// Approved is what the last approval was about, Granted the questions of activities that were approved.
	Approved subject  `json:"approved,omitempty"`
	Granted  []string `json:"granted,omitempty"`
	// Asked is what operators sign now, under four eyes, Signed who has, Questions how much was asked so far. Recount: the
	// signatures are to be counted by the present list of operators. Mandate lets the outgoing keys be revoked.
	Asked     *rotation.Question  `json:"asked,omitempty"`
	Signed    []rotation.Decision `json:"signed,omitempty"`
	Questions int                 `json:"questions,omitempty"`
	Recount   bool                `json:"recount,omitempty"`
	Mandate   *rotation.Approval  `json:"mandate,omitempty"`
	// Supplied is the version that was supplied before a question about the store came up.
	Supplied string `json:"supplied,omitempty"`
	// Claim is a person's word that still has to be checked: a supplied version, a revocation.
	Claim *rotation.Decision `json:"claim,omitempty"`

	// Early are signals that came before their phase and are kept until it, Exposed the fingerprints of what was sent in a
	// signal and looks like a key, ExposedIn the run whose history has it.
	Early     []rotation.Decision `json:"early,omitempty"`
	Exposed   []string            `json:"exposed,omitempty"`
	ExposedIn string              `json:"exposedIn,omitempty"`

	// Wish is the wish to roll back that was not carried out yet.
	Wish *rotation.Decision `json:"wish,omitempty"`
	// Note explains the latest turn, Stall why the present step does not get on.
	Note  string `json:"note,omitempty"`
	Stall string `json:"stall,omitempty"`

	Decisions []rotation.Decision `json:"decisions,omitempty"`
	Revoked   []string            `json:"revoked,omitempty"`
	Left      []string            `json:"left,omitempty"`
	// Unknown: an emergency named values that nobody knows; Left says which.
	Unknown bool             `json:"unknown,omitempty"`
	Outcome string           `json:"outcome,omitempty"`
	NotDue  bool             `json:"notDue,omitempty"`
	Trail   []rotation.Entry `json:"trail,omitempty"`
}

// maxTrail bounds what a rotation that goes to and fro for months carries along.
const maxTrail = 64

// RotateKey replaces one key without downtime, and survives whatever happens half-way. docs/architecture.md has the
// diagram. It has no timeout; it ends as completed or rolled-back, or waits for a person and says so.
func RotateKey(ctx workflow.Context, in Input) (rotation.Result, error) {
	if (in.Resume != nil || in.Round > 0) && workflow.GetInfo(ctx).ContinuedExecutionRunID == "" {
		// A made-up state could begin at revoke, and what was decided before could be made up as well.
		return rotation.Result{}, temporal.NewNonRetryableApplicationError("a rotation cannot be started in the middle: leave resume and round out", "Rejected", nil)
	}
	r := newRotator(ctx, in)
	return r.run()
}

// acts only names the activities.
var acts *activities.Activities

// rotator is one run of RotateKey.
type rotator struct {
	State
	in   Input
	root workflow.Context
	// ctx is not cancelled with the workflow: a cancel is a wish to roll back, which takes activities and timers.
	ctx   workflow.Context
	id    string
	steps map[rotation.Phase]func() rotation.Phase
	// cancelled: the cancel of this run was heard.
	cancelled bool
	// hush stops what is being told, by channel.
	hush map[string]workflow.CancelFunc
	// opens is when a channel may be told, as far as it was asked.
	opens map[string]answer
}

func newRotator(root workflow.Context, in Input) *rotator {
	ctx, _ := workflow.NewDisconnectedContext(root)
	r := &rotator{in: in, root: root, ctx: ctx, hush: map[string]workflow.CancelFunc{}, opens: map[string]answer{}, id: rotation.ID(workflow.GetInfo(root).FirstRunID)}
	if in.Round > 0 {
		// Another rotation of the same workflow: it must not take the former one's keys for its own.
		r.id = rotation.ID(fmt.Sprintf("%s/%d", workflow.GetInfo(root).FirstRunID, in.Round))
	}
	if in.Resume != nil {
		r.State = *in.Resume
	} else {
		now := workflow.Now(ctx)
		r.State = State{Step: rotation.Prepare, StartedAt: now, Trail: []rotation.Entry{{Phase: rotation.Prepare, At: now}}}
		r.begin()
		r.Lines = lines(in)
	}
	r.steps = map[rotation.Phase]func() rotation.Phase{
		rotation.Prepare: r.prepare, rotation.Create: r.create, rotation.AwaitingKey: r.awaitingKey, rotation.Store: r.store,
		rotation.Verify: r.verify, rotation.Promote: r.promote, rotation.Grace: r.grace, rotation.Guard: r.guard,
		rotation.AwaitingApproval: r.awaitingApproval, rotation.Revoke: r.revoke, rotation.AwaitingRevocation: r.awaitingRevocation,
		rotation.Confirm: r.confirm, rotation.Retire: r.retire, rotation.RollingBack: r.discard,
	}
	r.listen()
	return r
}

func (r *rotator) run() (rotation.Result, error) {
	r.tellAgain()
	r.show()
	for !r.Step.Closed() && !r.stops() {
		if r.shouldContinueAsNew() {
			return r.continueAsNew()
		}
		next := r.steps[r.Step]()
		r.drain()
		if r.Wish != nil && !next.Closed() {
			next = r.turnBack(next)
		}
		r.enter(next)
	}
	if r.stops() {
		return r.follow()
	}
	return r.finish()
}

// phase is what the world sees of step and direction.
func (r *rotator) phase() rotation.Phase {
	if r.Reverse && !r.Step.Closed() {
		return rotation.RollingBack
	}
	return r.Step
}

// enter moves to a step and shows it.
func (r *rotator) enter(next rotation.Phase) {
	if next == r.Step {
		r.show()
		return
	}
	workflow.GetLogger(r.ctx).Info("Phase", "key", r.in.Key.Name, "rotation", r.id, "from", r.Step, "to", next, "reverse", r.Reverse)
	before := r.phase()
	r.Step, r.PatienceUntil, r.Polls, r.Stall = next, time.Time{}, 0, ""
	if !next.Waiting() {
		r.noDeadline()
	} else {
		r.newWait()
	}
	// A claim is about the wait that it ended.
	r.Claim = nil
	if next == rotation.Grace {
		r.poseFinish()
	} else if next != rotation.AwaitingApproval {
		r.Asked, r.Signed, r.Recount = nil, nil, false
	}
	if r.phase() != before {
		r.Trail = append(r.Trail, rotation.Entry{Phase: r.phase(), At: r.now()})
		r.Trail = r.Trail[max(0, len(r.Trail)-maxTrail):]
	}
	r.show()
}

// list brings the phase into the list of rotations. Only where the rotation stays a while: a phase that is over in a
// blink would cost an event and a write into the visibility store, and be out of date when somebody reads it.
func (r *rotator) list() {
	if r.Listed != r.phase() {
		r.Listed = r.phase()
		r.upsert(PhaseAttribute.ValueSet(string(r.Listed)))
	}
}

func (r *rotator) upsert(updates ...temporal.SearchAttributeUpdate) {
	// It fails only for attributes that cannot be encoded; ours are strings and times.
	_ = workflow.UpsertTypedSearchAttributes(r.ctx, updates...)
}

// turnBack carries out a wish to roll back, if there is still a way back; otherwise it goes on to next.
func (r *rotator) turnBack(next rotation.Phase) rotation.Phase {
	wish := *r.Wish
	r.Wish = nil
	switch {
	case r.Reverse || r.Step == rotation.RollingBack || next == rotation.RollingBack:
		return next
	case r.Irreversible:
		r.Note = "There is no way back any more: the rotation goes on to its end. (" + wish.Why + ")"
		return next
	case !r.Promoting:
		r.Outcome = wish.Why
		return rotation.RollingBack
	default:
		r.Outcome = wish.Why
		return r.reverse(next)
	}
}

// reverse begins a rotation in the other direction: the old key is proven, flipped back, both are kept for a
// grace period, then the new key is revoked.
func (r *rotator) reverse(next rotation.Phase) rotation.Phase {
	if len(r.Old) == 0 || r.Prepared.OldRefused {
		r.Note = "There is no old key that works, so there is nothing to go back to. (" + r.Outcome + ")"
		r.Outcome = ""
		return next
	}
	r.enable()
	r.Reverse, r.GraceUntil, r.PublishedAt, r.Question = true, time.Time{}, time.Time{}, ""
	r.Recheck, r.Refusals, r.Approved, r.Early, r.Mandate = 0, 0, "", nil, nil
	if slices.Contains(r.Old[0].Numbers, "") {
		// A store that never had the old value gets it first.
		return rotation.Store
	}
	return rotation.Verify
}

// enable undoes a disable, also one whose answer was lost. It does not give up: the old key is wanted back.
func (r *rotator) enable() {
	for n := 0; r.Disabled; n++ {
		_, f, ok := do[struct{}](r, changing(), "enable the old key again", acts.Revoke,
			activities.RevokeInput{Target: r.target(), Keys: r.Old, Mode: activities.EnableKey})
		// A key that is gone cannot be enabled; verify will find that out.
		if ok || f != nil && f.class == fault.NotFound {
			r.Disabled, r.SoakUntil = false, time.Time{}
			return
		}
		if f != nil {
			r.stalled("The old key cannot be enabled again: " + f.text + " Enable it by hand: " + r.Prepared.ProviderConsole)
		}
		r.sleep("try again to enable the old key", stallInterval(n))
	}
}

// incoming is the value that this direction makes current, outgoing what it revokes in the end.
func (r *rotator) incoming() *activities.Ref {
	if r.Reverse {
		return &r.Old[0]
	}
	return r.New
}

func (r *rotator) outgoing() []activities.Ref {
	if r.Reverse {
		return []activities.Ref{*r.New}
	}
	return r.Old
}

func (r *rotator) target() activities.Target {
	return activities.Target{Key: r.in.Key, Rotation: r.id}
}

func (r *rotator) emergency() bool { return r.in.Reason == rotation.Emergency }

func (r *rotator) now() time.Time { return workflow.Now(r.ctx) }

// wish asks for a roll-back that no person asked for.
func (r *rotator) wish(why string) {
	if r.Wish == nil {
		r.Wish = &rotation.Decision{Kind: rotation.RollBack, Message: rotation.Message{By: "rekey", Why: why}, At: r.now()}
	}
}

// wantsBack tells whether a wish to roll back, or an emergency that another rotation serves, should end a wait.
func (r *rotator) wantsBack() bool {
	return r.Wish != nil && !r.Reverse && !r.Irreversible || r.stops()
}

// sleep waits for d. It tells whether a wish to roll back ended it early.
func (r *rotator) sleep(summary string, d time.Duration) bool {
	r.until(summary, r.now().Add(d), func() bool { return false })
	return r.wantsBack()
}

// until waits for a condition, a wish to roll back, or a moment, whichever comes first. A zero moment never comes.
// A message that was sent before the moment counts, also when no worker was there to hear it in time.
func (r *rotator) until(summary string, moment time.Time, condition func() bool) {
	defer r.drain()
	done := func() bool { return condition() || r.wantsBack() }
	if !done() && (moment.IsZero() || moment.After(r.now())) {
		r.list()
	}
	if moment.IsZero() {
		_ = workflow.Await(r.ctx, done)
		return
	}
	if d := moment.Sub(r.now()); d > 0 {
		_, _ = workflow.AwaitWithOptions(r.ctx, workflow.AwaitOptions{Timeout: d, TimerOptions: workflow.TimerOptions{Summary: summary}}, done)
	}
}

// shouldContinueAsNew: only between steps, and never while somebody's message is being handled.
func (r *rotator) shouldContinueAsNew() bool {
	r.drain()
	return workflow.GetInfo(r.ctx).GetContinueAsNewSuggested() && workflow.AllHandlersFinished(r.ctx)
}

func (r *rotator) continueAsNew() (rotation.Result, error) {
	in := r.in
	in.Emergencies, in.Left, in.Decided, in.Lines = nil, nil, nil, nil
	state := r.State
	in.Resume = &state
	return rotation.Result{}, workflow.NewContinueAsNewError(r.ctx, RotateKey, in)
}

// finish makes the result and puts it where it can be read without a worker.
func (r *rotator) finish() (rotation.Result, error) {
	r.stillLive()
	res := rotation.Result{
		Key: r.in.Key.Name, Rotation: r.id, Reason: r.in.Reason, Phase: r.Step, Outcome: r.Outcome, NotDue: r.NotDue,
		Revoked: r.Revoked, Unknown: r.Unknown, Left: r.Left, Decisions: r.Decisions, StartedAt: r.StartedAt, EndedAt: r.now(),
		PublishedAt: r.PublishedAt, RevokedAt: r.RevokedAt, Trail: r.Trail,
	}
	if r.Step == rotation.Completed && r.New != nil {
		res.New = r.New.Fingerprint
	}
	if res.Outcome == "" {
		res.Outcome = fmt.Sprintf("Applications read the new key %s; revoked: %d.", res.New, len(res.Revoked))
	}
	r.list()
	_ = workflow.UpsertMemo(r.ctx, map[string]any{ResultMemo: res})
	r.tellEnd(res)
	// Messages that came too late for anything are answered by the rotation's end.
	r.drain()
	_ = workflow.Await(r.ctx, func() bool { return workflow.AllHandlersFinished(r.ctx) })
	if r.stops() {
		return r.follow()
	}
	return res, nil
}

// situation is what decisions are judged by.
func (r *rotator) situation() rotation.Situation {
	s := rotation.Situation{
		Phase: r.phase(), Step: r.Step, Reverse: r.Reverse || r.Step == rotation.RollingBack, Irreversible: r.Irreversible,
		Now: r.now(), GraceUntil: r.GraceUntil, Deadline: r.Deadline,
	}
	if !r.Deadline.IsZero() {
		s.WaitCap = r.Began.Add(rotation.WaitCap * time.Duration(r.in.Key.Policy.Patience))
	}
	s.Extendable = !r.PublishedAt.IsZero() && (r.After == rotation.Guard || r.After == rotation.Grace)
	if !r.PublishedAt.IsZero() {
		s.GraceCap = r.PublishedAt.Add(time.Duration(r.in.Key.Policy.MaxGrace))
	}
	return s
}

// status is the answer to the status query and to every Update.
func (r *rotator) status() rotation.Status {
	s := rotation.Status{
		Key: r.in.Key.Name, Rotation: r.id, Provider: r.in.Key.Provider, Account: r.in.Key.Account, Tier: r.in.Key.Tier, Reason: r.in.Reason,
		Phase: r.phase(), Details: r.details(), Deadline: r.Deadline, GraceUntil: r.GraceUntil,
		Overdue: !r.Deadline.IsZero() && r.now().After(r.Deadline), Accepts: r.situation().Accepts(), Trail: r.Trail,
		Told: r.told(), Signing: r.signing(),
	}
	if r.New != nil {
		s.New = r.New.Fingerprint
	}
	for _, o := range r.Old {
		s.Old = append(s.Old, o.Fingerprint)
	}
	slices.Sort(s.Old)
	return s
}
