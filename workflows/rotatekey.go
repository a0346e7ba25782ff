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

// Input starts a rotation: the key spec and why. It holds no secrets and no endpoints.
type Input struct {
	Key    rotation.Key    `json:"key"`
	Reason rotation.Reason `json:"reason"`
	// By and Why are for people who read the history; By is a claim.
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// Emergencies say what has leaked, for reason emergency; none means every value made before the start.
	Emergencies []rotation.Decision `json:"emergencies,omitempty"`
	// Carry is set by a rotation for the one that follows it in the same workflow, Resume for its own next run.
	Carry  *CarryOver `json:"carry,omitempty"`
	Resume *State     `json:"resume,omitempty"`

	received received
}

// maxTrail bounds what a rotation that goes to and fro for months carries along.
const maxTrail = 64

// RotateKey replaces one key without downtime, and survives whatever happens half-way. docs/architecture.md has the
// diagram. It has no timeout; it ends as completed or rolled-back, or waits for a person and says so.
func RotateKey(ctx workflow.Context, in Input) (rotation.Result, error) {
	if err := in.received.check(ctx, maxInput, in.Resume != nil || in.Carry != nil); err != nil {
		return rotation.Result{}, err
	}
	if err := provenOrigin(ctx, "a rotation", in.Resume != nil || in.Carry != nil); err != nil {
		return rotation.Result{}, err
	}
	return newRunner(ctx, in).run()
}

// decision says where to go. It is asked when a step has done what takes time and every message that has come was heard,
// so what it rests on cannot be out of date. It never waits. An emergency may leave it unasked: what the step has found out,
// and another rotation or a person has to know, is noted before.
type decision func() rotation.State

// runner is one run of RotateKey.
type runner struct {
	State
	in   Input
	root workflow.Context
	// ctx is not cancelled with the workflow: a cancel is a request to roll back, which takes activities and timers.
	ctx   workflow.Context
	id    string
	steps map[rotation.Step]func() decision
	// plan counts the messages that change what the rotation does next, basis is the count that the present step began
	// with.
	plan, basis int
	// cancelled: the cancel of this run was heard.
	cancelled bool
	// idle counts turns in which no time passed and nothing was done.
	idle     int
	idleTime time.Time
	// visits counts how often each step was entered since visitsSince.
	visits      map[rotation.Step]int
	visitsSince time.Time
	// stop ends what is being sent, by channel; hours are when a channel may be notified, as far as it was asked.
	stop  map[string]workflow.CancelFunc
	hours map[string]openHours
}

func newRunner(root workflow.Context, in Input) *runner {
	ctx, _ := workflow.NewDisconnectedContext(root)
	r := &runner{in: in, root: root, ctx: ctx, stop: map[string]workflow.CancelFunc{}, hours: map[string]openHours{}}
	if in.Resume != nil {
		r.State = *in.Resume
	} else {
		r.begin()
	}
	r.id = rotation.ID(workflow.GetInfo(root).FirstRunID)
	if r.Carry.Round > 0 {
		// Another rotation of the same workflow: it must not take the former one's keys for its own.
		r.id = rotation.ID(fmt.Sprintf("%s/%d", workflow.GetInfo(root).FirstRunID, r.Carry.Round))
	}
	r.steps = map[rotation.Step]func() decision{
		rotation.StepConflicts: r.conflicts, rotation.StepPrepare: r.prepare, rotation.StepContain: r.contain,
		rotation.StepAwaitContainment: r.awaitContainment, rotation.StepCreate: r.create, rotation.StepAwaitKey: r.awaitKey,
		rotation.StepAdopt: r.adopt, rotation.StepStore: r.store, rotation.StepVerify: r.verify, rotation.StepPromote: r.promote,
		rotation.StepGrace: r.grace, rotation.StepRecheck: r.recheck, rotation.StepGuard: r.guard, rotation.StepApproval: r.awaitApproval,
		rotation.StepDisable: r.disable, rotation.StepSoak: r.soak, rotation.StepDelete: r.delete,
		rotation.StepAwaitRevocation: r.awaitRevocation, rotation.StepConfirm: r.confirm, rotation.StepRetire: r.retire,
		rotation.StepEnable: r.enable, rotation.StepDiscard: r.discard,
	}
	r.listen()
	return r
}

// begin makes the state of a rotation that begins.
func (r *runner) begin() {
	now := workflow.Now(r.ctx)
	first := rotation.StepPrepare
	if len(r.in.Key.ConflictsWith) > 0 {
		first = rotation.StepConflicts
	}
	r.At = rotation.State{Step: first, Commitment: rotation.Looking}
	r.Progress = Progress{StartedAt: now, Trail: []rotation.TrailEntry{{Phase: rotation.Prepare, At: now}}}
	if r.in.Carry != nil {
		r.Carry = *r.in.Carry
		r.Keys.Prepared.Signers, r.Carry.Signers = r.Carry.Signers, nil
	}
	r.beginEmergency()
	r.Carry.Channels = channels(r.in.Key.Policy, r.Carry.Channels)
}

// run is the loop of the rotation. Nothing but a step takes time; requests to roll back, emergencies that need a rotation
// of their own, the end, and the change to a new run are handled here and nowhere else.
func (r *runner) run() (rotation.Result, error) {
	r.resumeNotifications()
	r.refreshDetails()
	for {
		r.takeMessages()
		if r.superseded() {
			return r.follow()
		}
		if next, ok := r.rollBackRequested(); ok {
			r.enter(next)
			continue
		}
		if r.At.Step.Closed() {
			if res, ended := r.finish(); ended {
				return res, nil
			}
			continue
		}
		if r.mustLeave() {
			return r.continueAsNew()
		}
		r.turn()
	}
}

// turn does one step, or waits before it is done again.
func (r *runner) turn() {
	r.checkIdle()
	r.basis = r.plan
	if r.Poll.At.After(r.now()) {
		r.waitForPoll()
		return
	}
	decide := r.steps[r.At.Step]()
	r.takeMessages()
	if r.superseded() {
		return // what the step found is in the stores, or in the state
	}
	if next, ok := r.rollBackRequested(); ok {
		r.enter(next)
		return
	}
	r.enter(decide())
}

// maxIdle is how many turns may pass without time passing or anything being done.
const maxIdle = 64

// checkIdle fails the workflow task when the rotation runs in circles: better a task that fails, which Temporal shows and
// retries with mended code, than a history that grows without end.
func (r *runner) checkIdle() {
	if now := r.now(); !now.Equal(r.idleTime) {
		r.idle, r.idleTime = 0, now
	}
	if r.idle++; r.idle > maxIdle {
		panic(fmt.Sprintf("the rotation of %s runs in circles at %s", r.in.Key.Name, r.At))
	}
}

// maxVisits is how often a step may be entered within a minute.
const maxVisits = 20

// checkCircles slows the rotation down when it goes round and round, each time doing something: nothing that it does so
// often can be right, and the history must not fill up before a person has seen it.
func (r *runner) checkCircles() {
	if now := r.now(); now.Sub(r.visitsSince) >= time.Minute {
		r.visits, r.visitsSince = map[rotation.Step]int{}, now
	}
	if r.visits[r.At.Step]++; r.visits[r.At.Step] > maxVisits {
		workflow.GetLogger(r.ctx).Error("The rotation runs in circles", "key", r.in.Key.Name, "rotation", r.id, "at", r.At.String())
		r.pollAgain(time.Minute, poll{why: "The rotation keeps coming back to this step. That is a bug in rekey: please report it, with this history.", summary: "slow down"})
	}
}

// active notes that something was done.
func (r *runner) active() { r.idle = 0 }

// stay is the present state: the step is done again.
func (r *runner) stay() rotation.State { return r.At }

// to is a step under the present commitment.
func (r *runner) to(step rotation.Step) rotation.State {
	return rotation.State{Step: step, Commitment: r.At.Commitment}
}

// changed reports whether a message has changed the plan since the step began.
func (r *runner) changed() bool { return r.plan != r.basis }

// phase is what the world sees of the state.
func (r *runner) phase() rotation.Phase { return r.At.Phase() }

// backwards reports whether the rotation goes back to the old key after it had promoted the new one.
func (r *runner) backwards() bool { return r.At.Commitment == rotation.Reversing }

// enter moves along an arrow of the diagram.
func (r *runner) enter(next rotation.State) {
	from := r.At
	if next == from {
		r.refreshDetails()
		return
	}
	if err := rotation.Check(from, next); err != nil {
		panic(err.Error()) // it fails the workflow task; nothing goes on from a state that cannot be
	}
	workflow.GetLogger(r.ctx).Info("Transition", "key", r.in.Key.Name, "rotation", r.id, "from", from.String(), "to", next.String())
	r.At = next
	if next.Step != from.Step {
		r.Poll, r.Blocked = Poll{}, Blocked{}
		r.active()
		r.checkCircles()
	}
	if next.Step.Phase() != from.Step.Phase() {
		r.leavePhase(from.Step.Phase(), next.Step.Phase())
	}
	if next.Phase() != from.Phase() {
		r.Progress.Trail = append(r.Progress.Trail, rotation.TrailEntry{Phase: next.Phase(), At: r.now()})
		r.Progress.Trail = r.Progress.Trail[max(0, len(r.Progress.Trail)-maxTrail):]
	}
	r.refreshDetails()
}

// leavePhase drops what belongs to a phase.
func (r *runner) leavePhase(from, to rotation.Phase) {
	if to.Waiting() && r.At.Step != rotation.StepAdopt {
		r.newWait()
	} else {
		r.endWait() // adopt belongs to a phase that waits, and waits for nobody
	}
	if from == rotation.AwaitingApproval {
		r.Approvals.Open = nil
	}
	if from != rotation.AwaitingKey {
		r.Inbox.Claim = nil
	}
	switch to {
	case rotation.Grace:
		r.askToFinish()
	case rotation.AwaitingApproval:
	default:
		r.Approvals.dropSigning()
	}
}

// publishPhase brings the phase into the list of rotations. Only where the rotation stays a while: a phase that is over in
// a blink would cost an event and a write into the visibility store, and be out of date when somebody reads it.
func (r *runner) publishPhase() {
	if r.Progress.Listed != r.phase() {
		r.Progress.Listed = r.phase()
		r.upsert(PhaseAttribute.ValueSet(string(r.Progress.Listed)))
	}
}

func (r *runner) upsert(updates ...temporal.SearchAttributeUpdate) {
	// It fails only for attributes that cannot be encoded; ours are strings and times.
	_ = workflow.UpsertTypedSearchAttributes(r.ctx, updates...)
}

func (r *runner) target() activities.Target {
	return activities.Target{Key: r.in.Key, Rotation: r.id}
}

func (r *runner) now() time.Time { return workflow.Now(r.ctx) }

// maxFollowUps bounds what a rotation leaves to a person: nobody reads more, and the result must not grow without end.
const maxFollowUps = 200

func (r *runner) followUp(text string) {
	if len(r.Carry.FollowUps) >= maxFollowUps {
		text = "There are more follow-ups than are listed here: see the history."
	}
	if !slices.Contains(r.Carry.FollowUps, text) {
		r.Carry.FollowUps = append(r.Carry.FollowUps, text)
	}
}

// mustLeave reports whether the rotation should go on in a new run: only between steps, and never while somebody's message
// is being handled.
func (r *runner) mustLeave() bool {
	return workflow.GetInfo(r.ctx).GetContinueAsNewSuggested() && workflow.AllHandlersFinished(r.ctx)
}

func (r *runner) continueAsNew() (rotation.Result, error) {
	in := r.in
	in.Emergencies, in.Carry = nil, nil
	state := r.State
	in.Resume = &state
	return rotation.Result{}, workflow.NewContinueAsNewError(r.ctx, RotateKeyType, in)
}

// superseded reports whether the rotation leaves the rest to one that follows.
func (r *runner) superseded() bool {
	return len(r.Inbox.Successors) > 0 || r.Inbox.Again && (r.At.Step.Closed() || r.At.Commitment == rotation.Looking)
}

// follow ends this rotation and begins the one that serves what it could not: everything that must be revoked is in the
// stores' records.
func (r *runner) follow() (rotation.Result, error) {
	_ = workflow.Await(r.ctx, func() bool { return workflow.AllHandlersFinished(r.ctx) })
	r.takeMessages()
	r.endWait()
	r.neverAskedFor()
	in := Input{Key: r.in.Key, Reason: r.in.Reason, By: r.in.By, Why: r.in.Why}
	carry := r.Carry
	carry.Round++
	carry.Predecessors = append(slices.Clone(carry.Predecessors), r.id)
	carry.Emergencies, carry.Signers = nil, r.Keys.Prepared.Signers
	if r.At.Step != rotation.StepCompleted || r.Inbox.Again {
		carry.Emergencies = slices.Clone(r.Emergency.Leaks)
	}
	if s := r.Inbox.Successors; len(s) > 0 {
		in.Reason, in.By, in.Why = rotation.Emergency, s[0].By, s[0].Why
		carry.Emergencies = append(carry.Emergencies, s...)
	}
	if text := r.suppliedInVain(); text != "" {
		carry.FollowUps = append(slices.Clone(carry.FollowUps), text)
	}
	in.Carry = &carry
	return rotation.Result{}, workflow.NewContinueAsNewError(r.ctx, RotateKeyType, in)
}

// finish makes the result and puts it where it can be read without a worker. It is false if something came in the last
// moment that another rotation must serve.
func (r *runner) finish() (rotation.Result, bool) {
	r.emergencyNotDone()
	r.neverAskedFor()
	p := r.Progress
	res := rotation.Result{
		Key: r.in.Key.Name, Rotation: r.id, Reason: r.in.Reason, Phase: r.phase(), Outcome: p.Outcome, NotDue: p.NotDue,
		Revoked: r.Carry.Revoked, Unknown: r.Carry.Unknown, FollowUps: r.Carry.FollowUps, Decisions: r.Carry.Decisions, StartedAt: p.StartedAt,
		EndedAt: r.now(), PublishedAt: p.PublishedAt, RevokedAt: p.RevokedAt, Trail: p.Trail,
	}
	if r.At.Step == rotation.StepCompleted && r.Keys.New != nil {
		res.New = r.Keys.New.Fingerprint
	}
	if res.Outcome == "" {
		res.Outcome = fmt.Sprintf("Applications read the new key %s; revoked: %d.", res.New, len(res.Revoked))
	}
	r.publishPhase()
	_ = workflow.UpsertMemo(r.ctx, map[string]any{ResultMemo: res})
	r.notifyEnd(res)
	// Messages that came too late for anything are answered by the rotation's end.
	r.takeMessages()
	_ = workflow.Await(r.ctx, func() bool { return workflow.AllHandlersFinished(r.ctx) })
	r.takeMessages()
	return res, !r.superseded()
}

// status is the answer to the status query and to every Update.
func (r *runner) status() rotation.Status {
	s := rotation.Status{
		Key: r.in.Key.Name, Rotation: r.id, Provider: r.in.Key.Provider, Account: r.in.Key.Account, Tier: r.in.Key.Tier, Reason: r.in.Reason,
		Phase: r.phase(), Details: r.page().Render(), Deadline: r.Wait.Deadline, GraceUntil: r.Direction.GraceUntil,
		Overdue: r.expired(), Accepts: r.decisionContext().Accepts(), Trail: r.Progress.Trail, Deliveries: r.delivered(), Signing: r.signing(), Question: r.question().ID,
	}
	if r.Keys.New != nil {
		s.New = r.Keys.New.Fingerprint
	}
	for _, o := range r.Keys.Old {
		s.Old = append(s.Old, o.Fingerprint)
	}
	slices.Sort(s.Old)
	return s
}
