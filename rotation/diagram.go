package rotation

import (
	"fmt"
	"slices"
	"strings"
)

// Step is one box of the diagram: a rotation does one thing that takes time there, or waits, and then decides where to go.
type Step string

// The steps.
const (
	StepConflicts        Step = "conflicts"
	StepPrepare          Step = "prepare"
	StepContain          Step = "contain"
	StepAwaitContainment Step = "await-containment"
	StepCreate           Step = "create"
	StepAwaitKey         Step = "await-key"
	StepAdopt            Step = "adopt"
	StepStore            Step = "store"
	StepVerify           Step = "verify"
	StepPromote          Step = "promote"
	StepGrace            Step = "grace"
	StepRecheck          Step = "recheck"
	StepGuard            Step = "guard"
	StepApproval         Step = "await-approval"
	StepDisable          Step = "disable"
	StepSoak             Step = "soak"
	StepDelete           Step = "delete"
	StepAwaitRevocation  Step = "await-revocation"
	StepConfirm          Step = "confirm"
	StepRetire           Step = "retire"
	StepEnable           Step = "enable"
	StepDiscard          Step = "discard"
	StepCompleted        Step = "completed"
	StepRolledBack       Step = "rolled-back"
)

// phases are what the world sees of each step, while the rotation does not go backwards.
var phases = map[Step]Phase{
	StepConflicts: Prepare, StepPrepare: Prepare, StepContain: Revoke, StepAwaitContainment: AwaitingRevocation, StepCreate: Create,
	StepAwaitKey: AwaitingKey, StepAdopt: AwaitingKey, StepStore: Store, StepVerify: Verify, StepPromote: Promote, StepGrace: Grace,
	StepRecheck: Grace, StepGuard: Guard, StepApproval: AwaitingApproval, StepDisable: Revoke, StepSoak: Revoke, StepDelete: Revoke,
	StepAwaitRevocation: AwaitingRevocation, StepConfirm: Confirm, StepRetire: Retire, StepEnable: RollingBack, StepDiscard: RollingBack,
	StepCompleted: Completed, StepRolledBack: RolledBack,
}

// Phase is what the list of rotations shows for a step of a rotation that goes forward.
func (s Step) Phase() Phase { return phases[s] }

// Closed reports whether a rotation has ended with this step.
func (s Step) Closed() bool { return s == StepCompleted || s == StepRolledBack }

// Commitment is what a rotation has done that others could notice, and so what can still be undone. It is the one thing
// from which details, validators, deadlines and roll-back derive what is still possible.
type Commitment string

// The commitments, in the order in which a rotation comes to them.
const (
	// Looking: nothing was changed anywhere.
	Looking Commitment = "looking"
	// Staged: a new key may exist, and no application reads it. A roll-back discards it.
	Staged Commitment = "staged"
	// Discarding: the roll-back of a rotation that had only staged.
	Discarding Commitment = "discarding"
	// BothKeys: applications may read the new key, and the old one works or can be enabled again. A roll-back is a
	// rotation in reverse.
	BothKeys Commitment = "both-keys"
	// Reversing: the roll-back of a rotation that had promoted.
	Reversing Commitment = "reversing"
	// ForwardOnly: an old key is gone, may be gone, has leaked, or there is none that works. It goes on to its end.
	ForwardOnly Commitment = "forward-only"
)

// Commitments returns all commitments, in the order in which a rotation comes to them.
func Commitments() []Commitment {
	return []Commitment{Looking, Staged, Discarding, BothKeys, Reversing, ForwardOnly}
}

// CanRollBack reports whether a request to roll back can be carried out.
func (c Commitment) CanRollBack() bool { return c == Looking || c == Staged || c == BothKeys }

// Backwards reports whether the rotation is rolling back.
func (c Commitment) Backwards() bool { return c == Discarding || c == Reversing }

// Published reports whether applications may read the new key.
func (c Commitment) Published() bool { return c == BothKeys || c == Reversing || c == ForwardOnly }

// State is a place in the diagram.
type State struct {
	Step       Step       `json:"step"`
	Commitment Commitment `json:"commitment"`
}

// Phase is what the world sees of a state: a rotation that goes backwards shows RollingBack whatever step it is at.
func (s State) Phase() Phase {
	if s.Commitment.Backwards() && !s.Step.Closed() {
		return RollingBack
	}
	return s.Step.Phase()
}

func (s State) String() string { return string(s.Commitment) + "/" + string(s.Step) }

// Transition is one kind of arrow of the diagram: from some steps of one commitment to some steps of another.
type Transition struct {
	From []Step
	In   Commitment
	To   []Step
	// Into is the commitment after it.
	Into Commitment
	// By says who brings it about: what a step found, a person's message, or time.
	By string
	// Cause says what brings it about.
	Cause string
}

func steps(names string) []Step {
	var all []Step
	for _, n := range strings.Fields(names) {
		all = append(all, Step(n))
	}
	return all
}

func arrow(in Commitment, from string, into Commitment, to, by, cause string) Transition {
	return Transition{From: steps(from), In: in, To: steps(to), Into: into, By: by, Cause: cause}
}

// diagram has every transition but the one from a state to itself, which is always allowed: a step that takes a moment,
// or that somebody's message made out of date, is done again.
var diagram = []Transition{
	arrow(Looking, "conflicts", Looking, "prepare", "step", "no key that conflicts with this one is rotating"),
	arrow(Looking, "conflicts", Looking, "completed", "step", "a key that conflicts with this one is rotating: not due"),
	arrow(Looking, "prepare", Looking, "completed", "step", "not due"),
	arrow(Looking, "prepare", Looking, "await-approval", "step", "another installation or rotation has the claim"),
	arrow(Looking, "await-approval", Looking, "prepare", "person", "approved"),
	arrow(Looking, "conflicts prepare await-approval", Looking, "rolled-back", "step, person, time", "not possible, a roll-back, or nobody approved: nothing was changed"),
	arrow(Looking, "conflicts prepare await-approval", Discarding, "discard", "step, person, time", "the same, and the rotation before in the same workflow left something staged"),
	arrow(Looking, "prepare", Staged, "create await-key", "step", "due"),
	arrow(Looking, "prepare", ForwardOnly, "contain", "step", "an emergency that revokes first"),
	arrow(Looking, "prepare", ForwardOnly, "promote", "step", "due only to finish what an earlier rotation left"),
	arrow(Looking, "prepare", ForwardOnly, "retire", "step", "not due, and the rotation before in the same workflow left something staged"),

	arrow(Staged, "await-key", Staged, "adopt", "person", "somebody supplied a key"),
	arrow(Staged, "adopt", Staged, "await-key", "step, person", "the supplied key cannot be used, or another one was supplied"),
	arrow(Staged, "create adopt", Staged, "await-approval", "step", "a claim, or keys, whose owner cannot be proven"),
	arrow(Staged, "await-approval", Staged, "create adopt", "person", "approved"),
	arrow(Staged, "create adopt", Staged, "store verify", "step", "staged"),
	arrow(Staged, "store", Staged, "verify", "step", "pending in every store"),
	arrow(Staged, "verify", BothKeys, "promote", "step", "proven, and there is an old key that works"),
	arrow(Staged, "verify", ForwardOnly, "promote", "step", "proven, and there is no old key to go back to, or it has leaked"),
	arrow(Staged, "create await-key adopt store verify await-approval", Discarding, "discard", "step, person, time", "a roll-back, a deadline, or a failure that waiting does not cure"),

	arrow(Discarding, "discard", Discarding, "rolled-back", "step", "discarded"),
	arrow(Discarding, "discard", Discarding, "await-approval", "step", "refused"),
	arrow(Discarding, "await-approval", Discarding, "discard", "person", "approved"),
	arrow(Discarding, "discard", Reversing, "enable store verify", "step", "applications read the new key already (a workflow that was reset)"),
	arrow(Discarding, "discard", ForwardOnly, "verify", "step", "the same, and there is no old key to go back to, or it has leaked"),

	arrow(ForwardOnly, "contain", ForwardOnly, "await-containment", "step", "the provider has no API to revoke"),
	arrow(ForwardOnly, "contain await-containment", ForwardOnly, "create await-key", "step, person", "what leaked is contained"),
	arrow(ForwardOnly, "contain", ForwardOnly, "await-approval", "step", "refused"),
	arrow(ForwardOnly, "await-approval", ForwardOnly, "contain create await-key adopt store verify", "person", "approved"),
	arrow(ForwardOnly, "await-key", ForwardOnly, "adopt", "person", "somebody supplied a key"),
	arrow(ForwardOnly, "adopt", ForwardOnly, "await-key", "step, person", "the supplied key cannot be used, or another one was supplied"),
	arrow(ForwardOnly, "create adopt store verify", ForwardOnly, "await-approval", "step", "a claim or keys whose owner cannot be proven, or a failure that waiting does not cure"),
	arrow(ForwardOnly, "create adopt", ForwardOnly, "store verify", "step", "staged"),
	arrow(ForwardOnly, "store", ForwardOnly, "verify", "step", "pending in every store"),
	arrow(ForwardOnly, "verify", ForwardOnly, "promote", "step", "proven"),
}

// published are the steps in which both keys work.
var published = strings.Fields("promote grace recheck guard await-approval disable soak await-revocation confirm")

// The way from promote to the end is the same forwards and backwards, whether or not it can still be undone.
func init() {
	for _, c := range []Commitment{BothKeys, Reversing, ForwardOnly} {
		diagram = append(diagram,
			arrow(c, "promote", c, "grace", "step", "applications read the value in every store"),
			arrow(c, "promote", c, "await-approval", "step", "refused, or somebody changed what applications read"),
			arrow(c, "await-approval", c, "promote", "person", "approved"),
			arrow(c, "grace", c, "recheck", "time", "time to look at the key again"),
			arrow(c, "recheck", c, "grace", "step", "looked"),
			arrow(c, "recheck", c, "await-approval", "step", "the key that applications read is refused"),
			arrow(c, "grace", c, "guard", "time, person", "the grace period is over"),
			arrow(c, "guard await-approval", c, "grace", "step, person", "the key to revoke is in use, or somebody extended the grace period"),
			arrow(c, "guard", c, "await-approval", "step", "a person decides about the revoke"),
			arrow(c, "await-approval", c, "guard", "person", "approved"),
			arrow(c, "guard", c, "disable", "step", "the revoke can be undone for a while"),
			arrow(c, "guard", c, "await-revocation", "step", "the provider has no API to revoke"),
			arrow(c, "disable", c, "soak", "step", "disabled"),
			arrow(c, "disable", c, "guard", "step", "signatures are missing"),
			arrow(c, "disable confirm", c, "await-approval", "step", "refused"),
			arrow(c, "await-approval", c, "disable confirm", "person", "approved"),
			arrow(c, "await-revocation", c, "confirm", "person", "somebody says that it is revoked"),
			arrow(c, "confirm", c, "await-revocation", "step", "it is not"),
		)
	}
	for _, c := range []Commitment{Reversing, ForwardOnly} {
		end := "completed"
		if c == Reversing {
			end = "rolled-back"
		}
		diagram = append(diagram,
			arrow(c, "retire", c, end, "step", "the stores are cleared"),
			arrow(c, "retire", c, "await-approval", "step", "refused"),
			arrow(c, "await-approval", c, "retire", "person", "approved"),
		)
	}
	for _, c := range []Commitment{BothKeys, ForwardOnly} {
		diagram = append(diagram,
			arrow(c, "guard disable soak await-approval", ForwardOnly, "delete", "step, person, time", "the key to revoke goes for good"),
			arrow(c, "confirm", ForwardOnly, "retire", "step", "the old key is refused"),
			arrow(ForwardOnly, "delete", c, "await-approval", "step", "refused: nothing is gone"),
			arrow(ForwardOnly, "delete", c, "guard", "step", "signatures are missing: nothing is gone"),
		)
	}
	diagram = append(diagram,
		arrow(ForwardOnly, "guard", ForwardOnly, "retire", "step", "there is nothing to revoke"),
		arrow(ForwardOnly, "guard", ForwardOnly, "confirm", "step", "a person contained it before"),
		arrow(ForwardOnly, "delete", ForwardOnly, "confirm", "step", "deleted"),
		arrow(BothKeys, "await-approval", ForwardOnly, "verify", "person", "the old key is given up"),
		arrow(Reversing, "guard disable soak await-approval", Reversing, "delete", "step, person, time", "the new key goes for good"),
		arrow(Reversing, "delete", Reversing, "confirm", "step", "deleted"),
		arrow(Reversing, "delete", Reversing, "await-approval guard", "step", "refused, or signatures are missing"),
		arrow(Reversing, "confirm", Reversing, "retire", "step", "the new key is refused"),

		arrow(BothKeys, "promote grace recheck guard await-approval await-revocation confirm", Reversing, "store verify", "step, person, time",
			"a roll-back, a deadline, or a new key that is refused while the old one works"),
		arrow(BothKeys, "grace recheck guard await-approval disable soak", Reversing, "enable", "step, person, time", "the same, and the old key may be disabled"),
		arrow(Reversing, "enable", Reversing, "store verify", "step", "the old key is enabled again"),
		arrow(Reversing, "store", Reversing, "verify", "step", "pending in every store"),
		arrow(Reversing, "verify", Reversing, "promote", "step", "the old key is proven"),
		arrow(Reversing, "verify recheck", Reversing, "enable", "step", "the old key is refused: an abandoned request may have disabled it"),
		arrow(Reversing, "enable", Reversing, "await-approval", "step", "refused"),
		arrow(Reversing, "await-approval", Reversing, "enable", "person", "approved"),
		arrow(Reversing, "enable store verify", BothKeys, "await-approval", "step", "the old key cannot be gone back to: applications keep the new one"),
	)
	for _, step := range published {
		diagram = append(diagram, arrow(BothKeys, step, ForwardOnly, step, "person", "an emergency: nothing rolls back to a key that leaked"))
	}
}

// Diagram returns every transition but those from a state to itself.
func Diagram() []Transition { return slices.Clone(diagram) }

// Allowed reports whether the diagram has an arrow from one state to another, or both are the same.
func Allowed(from, to State) bool {
	if from == to {
		return true
	}
	return slices.ContainsFunc(diagram, func(t Transition) bool {
		return t.In == from.Commitment && t.Into == to.Commitment && slices.Contains(t.From, from.Step) && slices.Contains(t.To, to.Step)
	})
}

// Check returns an error if the diagram has no arrow from one state to the other.
func Check(from, to State) error {
	if Allowed(from, to) {
		return nil
	}
	return fmt.Errorf("the diagram has no transition from %s to %s", from, to)
}
