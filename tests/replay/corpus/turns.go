package corpus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// Action is what happens to a rotation in a state.
type Action string

// The actions.
const (
	// GoOn: nothing; the rotation goes on as it is.
	GoOn Action = "go-on"
	// ContinueAsNew: its history has grown too long, and it goes on in a new run.
	ContinueAsNew Action = "continue-as-new"
	// Emergency: somebody says that everything has leaked; LeakedKey: that the old key has.
	Emergency Action = "emergency"
	LeakedKey Action = "leaked-key"
	// RollBack: somebody asks to return to the old key.
	RollBack Action = "roll-back"
)

// Actions returns all actions.
func Actions() []Action { return []Action{GoOn, ContinueAsNew, Emergency, LeakedKey, RollBack} }

// Shape is what the way of a rotation depends on.
type Shape struct {
	// ByHand: people make and revoke the key. TwoStores: it is in two. FourEyes: two operators sign.
	ByHand, TwoStores, FourEyes bool
}

// Shapes returns all shapes.
func Shapes() (all []Shape) {
	for i := range 8 {
		all = append(all, Shape{ByHand: i&1 > 0, TwoStores: i&2 > 0, FourEyes: i&4 > 0})
	}
	return all
}

func (s Shape) String() string {
	name := "automatic"
	if s.ByHand {
		name = "by-hand"
	}
	if s.TwoStores {
		name += "+two-stores"
	}
	if s.FourEyes {
		name += "+four-eyes"
	}
	return name
}

// Turn is what happens to a rotation of a shape in a state.
type Turn struct {
	State  rotation.State
	Action Action
	Shape
}

func (t Turn) String() string { return fmt.Sprintf("%s %s %s", t.State, t.Action, t.Shape) }

// ParseState reads what State.String has written.
func ParseState(text string) rotation.State {
	commitment, step, _ := strings.Cut(text, "/")
	return rotation.State{Step: rotation.Step(step), Commitment: rotation.Commitment(commitment)}
}

// States returns every state of the diagram, in its order.
func States() (all []rotation.State) {
	add := func(c rotation.Commitment, steps []rotation.Step) {
		for _, step := range steps {
			if s := (rotation.State{Step: step, Commitment: c}); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	for _, t := range rotation.Diagram() {
		add(t.In, t.From)
		add(t.Into, t.To)
	}
	return all
}

// Turns returns every combination of state, action and shape, possible or not.
func Turns() (all []Turn) {
	for _, state := range States() {
		for _, action := range Actions() {
			for _, shape := range Shapes() {
				all = append(all, Turn{state, action, shape})
			}
		}
	}
	return all
}

// by are the steps that only one kind of key has.
var (
	byRekey  = []rotation.Step{rotation.StepCreate, rotation.StepDisable, rotation.StepSoak, rotation.StepDelete, rotation.StepEnable}
	byPeople = []rotation.Step{rotation.StepAwaitKey, rotation.StepAdopt, rotation.StepAwaitContainment, rotation.StepAwaitRevocation}
)

// NotPossible says why a turn cannot be taken; it is empty if it can.
func (t Turn) NotPossible() string {
	s := t.State
	closed := s.Step.Closed()
	switch {
	case t.ByHand && slices.Contains(byRekey, s.Step):
		return "rekey makes and takes away no key that people make by hand"
	case !t.ByHand && slices.Contains(byPeople, s.Step):
		return "rekey makes and takes away this key itself"
	case !t.ByHand && s == rotation.State{Step: rotation.StepConfirm, Commitment: rotation.BothKeys}:
		return "where rekey deletes the key, there is no way back behind that"
	case s.Step == rotation.StepStore && !t.TwoStores:
		return "the only store has the value already"
	case closed && t.Action == ContinueAsNew || closed && t.Action == RollBack:
		return "the rotation has ended"
	case s == rotation.State{Step: rotation.StepCompleted, Commitment: rotation.Looking} && t.Action != GoOn:
		return "what is not due ends in the workflow task in which that is found: no message can come meanwhile"
	case t.Action == RollBack && !s.Commitment.CanRollBack():
		return fmt.Sprintf("the commitment %s takes no roll-back", s.Commitment)
	case t.Action == LeakedKey && (closed || s.Commitment.Backwards()):
		return "an emergency needs a rotation of its own here, whatever it names"
	case t.ByHand && s.Step == rotation.StepContain && t.Action != GoOn && t.Action != ContinueAsNew:
		return "the step is over in the same workflow task: no message can come meanwhile"
	}
	return ""
}
