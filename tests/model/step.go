// Package model is an executable specification of the engine: a rotation and the world around it as one small value, and
// everything that can happen next. It is explored exhaustively to a stated depth, and in every state what must always
// hold (I1 to I10) is checked. It knows nothing of Temporal. The real workflow is held to it step by step.
//
// How to read it: state.go is what is known, world.go what activities do to provider and stores, hear.go what messages
// do, decide.go where a rotation goes, invariants.go what must hold. breakages.go are deliberate mistakes.
//
// An activity is requests to the provider and the stores, one input each, and then its answer: so it can be cut off
// between any two of them. An answer and a message write down what they bring; Decide then looks at nothing but the
// state. Time passes when the model says so, and the horizon of unanswered requests is the only clock that it needs.
//
// The real workflow walks beside it: walk_test.go takes both through the same random stories, a workflow task at a time,
// and holds every place, every activity's input and the end to the model's. clock_test.go and eyes_test.go have what the
// model leaves out: times, and how signatures are counted. REKEY_STEPS says how many workflow tasks (100000 in CI,
// 10000000 by hand, with -timeout 0), REKEY_SEED where to begin.
package model

import "fmt"

// Model is the engine, whole or broken in one place.
type Model struct{ Broken Breakage }

func (m Model) breaks(b Breakage) bool { return m.Broken&b != 0 }

// Labelled is one thing that can happen, and the state that it leads to.
type Labelled struct {
	Input Input
	State State
}

// Next returns everything that can happen in a state.
func (m Model) Next(s State) []Labelled {
	var all []Labelled
	for in := range inputs {
		if next, ok := m.Step(s, in); ok {
			all = append(all, Labelled{in, next})
		}
	}
	return all
}

// Step is what an input does in a state; false if it cannot happen there, or changes nothing.
func (m Model) Step(s State, in Input) (State, bool) {
	next, ok := m.step(s, in)
	// A request that comes late for a key that is gone does nothing.
	there := next.Live | next.Off | next.Killed
	next.LateDisable, next.LateDelete = next.LateDisable&there, next.LateDelete&there
	return next, ok && next != s
}

// Task is one task of the workflow: what happened, the messages that arrived with it, and the decisions, as long as there
// is something to decide on. It is what the real workflow is held to, state by state. A message that does not fit is
// refused, as the workflow refuses it; what cannot happen is an error. Decide as what happened: nothing but messages.
func (m Model) Task(s State, happened Input, messages ...Message) (State, error) {
	next := s
	if happened != Decide {
		var ok bool
		if next, ok = m.step(s, happened); !ok {
			return s, fmt.Errorf("%q cannot happen in %v", happened, s)
		}
	}
	for _, message := range messages {
		if heard, ok := m.hear(next, message); ok {
			next = heard
		}
	}
	return m.settle(next, func(State, bool) (Fact, bool) { return Nothing, false }), nil
}

// settle decides until something has to happen. due says what the clock brings in a step without an activity, and whether
// something else has to be done first; again: there was a decision before.
func (m Model) settle(s State, due func(s State, again bool) (came Fact, waits bool)) State {
	for entered, again := false, false; !s.Closed(); again = true {
		came, waits := due(s, again)
		if waits {
			break
		}
		if s.Fact == Nothing && !s.Step.works() {
			s.Fact = came
		}
		if !s.awake() && !(entered && s.passes()) {
			break
		}
		from := s
		s = m.decide(s)
		entered = s.Step != from.Step || s.Round != from.Round
	}
	return s
}

// passes reports whether a step that was just entered has nothing to look at.
func (s State) passes() bool {
	switch s.Step {
	case conflicts:
		return s.Emergency
	case guard:
		return s.Emergency || s.outgoing() == 0 || s.onlyOldIsDead()
	}
	return false
}

func (m Model) step(s State, in Input) (State, bool) {
	switch {
	case in == Decide:
		if s.Closed() || !s.awake() {
			return s, false
		}
		return m.decide(s), true
	case in.Message():
		heard, ok := m.hear(s, Message{Input: in})
		if ok && m.breaks(DecideFirst) && s.Fact != Nothing {
			decided := m.decide(s)
			decided.Emergency, decided.Leaked, decided.Request = heard.Emergency, heard.Leaked, heard.Request
			decided.Follow, decided.FollowFirst = heard.Follow, heard.FollowFirst
			return decided, true
		}
		return heard, ok
	case s.Closed() && in != LateMint && in != LateDisable && in != LateDelete:
		return s, false
	case s.Fact != Nothing: // what the world does now it can do after the decision as well
		return s, false
	case in.answer():
		return m.answer(s, in)
	}
	return m.happen(s, in)
}

// happen is everything but decisions, messages and answers.
func (m Model) happen(s State, in Input) (State, bool) {
	switch in {
	case RequestDone:
		next, _, ok := m.request(s)
		return next, ok
	case RequestLate:
		return m.late(s)
	case MintLost:
		next, risky, ok := m.request(s)
		if !ok || !risky || s.Step != create {
			return s, false
		}
		s.Claim, s.Open, s.Live = next.Claim, true, s.Live|set(s.stray())
		return s, true
	case LateMint:
		if s.LateMint == 0 {
			return s, false
		}
		s.Live, s.LateMint = s.Live|s.LateMint, 0
	case LateDisable:
		if s.LateDisable == 0 {
			return s, false
		}
		k := set(s.LateDisable.each()[0])
		s.LateDisable &^= k
		s.Off |= s.Live & k
		s.Live &^= k
	case LateDelete:
		if s.LateDelete == 0 {
			return s, false
		}
		k := set(s.LateDelete.each()[0])
		s.LateDelete &^= k
		s.Live, s.Off = s.Live&^k, s.Off&^k
	case GraceEnds:
		s.GraceOver = true
		return s, s.Step == grace
	case RecheckDue:
		s.Fact = Look
		return s, s.Step == grace && !s.GraceOver
	case SoakEnds:
		s.Fact = Over
		return s, s.Step == soak
	case Deadline:
		s.Fact = Over
		wait := s.Step == awaitKey || s.Step == approval || s.Step == awaitRevocation || s.Step == awaitContainment
		wait = wait || s.Step == adopt && s.Commitment == staged // while it does not get on
		return s, wait && !s.Overdue
	case Horizon:
		s.LateMint, s.LateDisable, s.LateDelete, s.Asked, s.Open = 0, 0, 0, 0, false
	case PersonRevokes:
		k := s.outgoing() & (s.Live | s.Off)
		if k == 0 || s.Step != awaitRevocation && s.Step != awaitContainment {
			return s, false
		}
		s.Live, s.Off = s.Live&^k, s.Off&^k
		if s.Step == awaitContainment {
			s.Sacrificed |= k
		}
	case SomebodyKillsNew, SomebodyKillsOld:
		return kill(s, in)
	case SomebodyMends:
		return mend(s)
	case OperatorLeaves:
		s.Void = true
		return s, s.Mandate != 0
	default:
		return m.operate(s, in)
	}
	return s, true
}

// late is a request that nobody answers. Whether the rotation asks again does not change what may happen.
func (m Model) late(s State) (State, bool) {
	next, risky, ok := m.request(s)
	if !ok || !risky {
		return s, false
	}
	switch s.Step {
	case create:
		s.LateMint, s.Claim, s.Open = set(s.stray()), s.Round, true
	case disable:
		s.LateDisable |= s.Live &^ next.Live
	case contain:
		s.Sacrificed = next.Sacrificed
		if s.shape().Disable {
			s.LateDisable |= s.Live &^ next.Live
			break
		}
		s.LateDelete |= (s.Live | s.Off) &^ (next.Live | next.Off)
	case remove, discard:
		s.LateDelete |= (s.Live | s.Off) &^ (next.Live | next.Off)
	}
	s.Asked |= s.LateDisable | s.LateDelete
	s.Retried = s.Step == disable || s.Step == remove
	return s, true
}

// kill takes a key away behind rekey's back.
func kill(s State, in Input) (State, bool) {
	k := set(Old)
	if in == SomebodyKillsNew {
		k = set(s.own())
	}
	if !s.shape().Outside || s.Faults == 1 || !s.Live.has(k.each()[0]) {
		return s, false
	}
	s.Live, s.Off, s.Killed = s.Live&^k, s.Off&^k, s.Killed|k
	s.Faults++
	return s, true
}

// mend makes a key work again that applications read, or that the question is about.
func mend(s State) (State, bool) {
	k := s.currents()
	if s.Question == NoWayBack {
		k |= set(s.Back)
	}
	if s.Question == CannotGoOn && (s.After == verify || s.After == s.creating()) {
		k |= set(s.incoming())
	}
	if k &= s.Killed | s.Off; s.Step != approval || k == 0 {
		return s, false
	}
	s.Live, s.Killed, s.Off = s.Live|k, s.Killed&^k, s.Off&^k
	return s, true
}

// operate is what an administrator of Temporal does to the workflow.
func (m Model) operate(s State, in Input) (State, bool) {
	if !s.shape().Operated || s.Faults == 1 || s.Round == 2 || s.Step == conflicts || s.Follow {
		return s, false
	}
	next := s.begin()
	next.Faults++
	switch in {
	case Reset:
		next.Step = prepare
		next.Emergency, next.First, next.Vague, next.Follows = s.Emergency, s.First, s.Vague, s.Follows // messages are sent again
	case ResetToVerify:
		if s.New != s.own() || !s.Commitment.name().Published() {
			return s, false
		}
		next.Step, next.Commitment = verify, staged
		next.New, next.Olds, next.Back, next.Works, next.Missing = s.New, s.Olds, s.Back, s.Works, s.Missing
		next.Emergency, next.Vague, next.Follows = s.Emergency, s.Vague, s.Follows
	case Terminate:
		next.Round, next.Step, next.Leaked = 2, s.shape().first(), 0 // nobody tells the next one what this one knew
	default:
		return s, false
	}
	return next, true
}
