package model

import "fmt"

// wellMeaning are the inputs of a world in which everything works and everybody answers, the most pressing first.
var wellMeaning = []Input{
	Decide, RequestDone, AnswerOK, AnswerGone, AnswerUnused, AnswerPublished, AnswerUnsigned, AnswerAccepted, AnswerNewRefused,
	Horizon, SoakEnds, GraceEnds, SomebodyMends, PersonRevokes, SayRevoked, SaySupplied, SayApprove, AnswerRefused, AnswerUnusable,
}

// Ordinary is what happens next where everything works and everybody answers.
func (m Model) Ordinary(s State) (Input, State, bool) {
	for _, in := range wellMeaning {
		if next, ok := m.Step(s, in); ok {
			return in, next, true
		}
	}
	return inputs, s, false
}

// Way is the ordinary way from a state to the end of the rotation.
func (m Model) Way(s State) []State {
	way := []State{s}
	for len(way) < 500 {
		_, next, ok := m.Ordinary(s)
		if !ok {
			break
		}
		s = next
		way = append(way, s)
	}
	return way
}

// Ways are the states on the ordinary ways of a story: to its end, and back from wherever it can go back. An exploration
// that begins at all of them reaches in a few steps what lies far from the beginning.
func (m Model) Ways(shape int) []State {
	all := m.Way(Initial(shape))
	for _, s := range all {
		if back, ok := m.Step(s, SayRollBack); ok {
			all = append(all, m.Way(back)...)
		}
	}
	return all
}

// End finds a state from which a rotation does not end although everything works from then on and everybody answers: it
// hangs, or goes in circles (I3, I7).
func (m Model) End(e *Explored) error {
	ends := make([]bool, len(e.states))
	beyond := map[State]bool{}
	for at := range e.states {
		var inside []uint32
		var outside []State
		way := map[State]bool{}
		for s := e.states[at]; ; {
			id, known := e.seen[s]
			if s.Closed() || known && ends[id] || beyond[s] {
				break
			}
			if known {
				inside = append(inside, id)
			} else {
				outside = append(outside, s)
			}
			in, next, ok := m.Ordinary(s)
			switch {
			case !ok:
				return &Violation{fmt.Errorf("I7: nothing gets it on: %v", s), e.path(at)}
			case way[s]:
				return &Violation{fmt.Errorf("I7: it goes in circles: %v, then %v", s, in), e.path(at)}
			}
			if err := m.check(s, in, next); err != nil {
				return &Violation{fmt.Errorf("%w: on the ordinary way from here, %v  ->  %v", err, in, next), e.path(at)}
			}
			way[s] = true
			s = next
		}
		for _, id := range inside {
			ends[id] = true
		}
		for _, s := range outside {
			beyond[s] = true
		}
	}
	return nil
}
