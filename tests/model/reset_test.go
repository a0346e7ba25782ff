package model

import (
	enumspb "go.temporal.io/api/enums/v1"
)

// restart terminates the workflow, and begins another, or resets it.
func (w *walk) restart() error {
	w.s.Faults = 0
	next, ok := w.m.Step(w.s, Terminate)
	if !ok {
		return nil
	}
	w.count["terminated"]++
	w.say("%s  the workflow is terminated, and another one begins", w.now().Format("02 15:04:05"))
	w.run.Terminate()
	w.s = next
	return w.start()
}

// place is what a workflow can be reset to: the completion of a workflow task in which it went on to another step.
type place struct {
	task      int
	was       string
	s         State
	time      clock
	told      Keys
	cancelled bool
}

// remember notes a place. What was decided there is decided anew after a reset, when it is later: so it is one in which the
// clock does not matter, and no update, for those come behind it.
func (w *walk) remember(before State, was string) {
	s := w.s
	switch {
	case s.Began || before.Step == s.Step && w.run.WorkflowTasks() > 1 || s.Round != before.Round || len(w.places) > 20:
		return
	case before.Step == disable || before.Step == remove || before.Step == discard:
		return
	}
	switch s.Step {
	case conflicts, prepare, contain, create, adopt, store, verify, promote, discard:
		w.places = append(w.places, place{w.run.WorkflowTasks(), was, s, w.time, w.told, w.cancelled})
	}
}

// reset puts the workflow back to a place. The world stays as it is, and nothing that was sent since is sent again.
func (w *walk) reset() error {
	i := w.rng.IntN(len(w.places))
	p := w.places[i]
	w.places = w.places[:i+1]
	w.count["reset"]++
	w.say("%s  the workflow is reset to task %d: %v", w.now().Format("02 15:04:05"), p.task, p.s)
	w.run = w.run.Reset(p.task, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE)
	w.suggest()
	late := w.time.late
	w.s, w.at, w.time, w.told, w.cancelled = w.s.remembering(p.s), p.was, p.time, p.told, p.cancelled
	w.time.late = late
	w.say("   -> %v", w.s)
	w.answered = false
	return w.task()
}

// remembering is the world of s with a rotation that knows what it knew once.
func (s State) remembering(once State) State {
	once.Live, once.Off, once.Killed, once.Sacrificed = s.Live, s.Off, s.Killed, s.Sacrificed
	once.LateMint, once.LateDisable, once.LateDelete, once.Asked = s.LateMint, s.LateDisable, s.LateDelete, s.Asked
	once.Stores, once.Owed, once.Claim, once.Open = s.Stores, s.Owed, s.Claim, s.Open
	return once
}
