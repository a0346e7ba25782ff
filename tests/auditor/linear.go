package auditor

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

// decideWithin bounds the search for an order of one secret's operations.
const decideWithin = 10 * time.Second

// linearizable says for each secret of each store, and for each of its versions, whether there is one order of all operations
// that explains every answer. An operation whose end nobody knows may have taken effect at any time since it began, or never.
func linearizable(history []Op, lags map[string]time.Duration, within time.Duration) (found []string) {
	records, versions := map[rotation.Location][]porcupine.Operation{}, map[version][]porcupine.Operation{}
	for i, op := range history {
		if op.Where == (rotation.Location{}) {
			continue
		}
		records[op.Where] = append(records[op.Where], stepsOnRecord(i, op, lags[op.Where.Store])...)
		for v, steps := range stepsOnVersions(op) {
			versions[v] = append(versions[v], steps...)
		}
	}
	for _, l := range slices.SortedFunc(maps.Keys(records), func(a, b rotation.Location) int { return strings.Compare(a.String(), b.String()) }) {
		found = append(found, decide(fmt.Sprintf("the record and the current value of %s", l), recordModel, records[l], within)...)
	}
	for _, v := range slices.SortedFunc(maps.Keys(versions), func(a, b version) int { return strings.Compare(a.String(), b.String()) }) {
		found = append(found, decide(v.String(), versionModel, versions[v], within)...)
	}
	return found
}

// decide searches for an order.
func decide(what string, m porcupine.Model, history []porcupine.Operation, within time.Duration) []string {
	switch porcupine.CheckOperationsTimeout(m, history, within) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return []string{fmt.Sprintf("NOT DECIDED within %v: is the history of %s linearizable? It has %d operations", within, what, len(history))}
	}
	return []string{fmt.Sprintf("I3: the history of %s is not linearizable: no order of its operations explains every answer.\n    %s", what, strings.Join(culprit(m, history), "\n    "))}
}

// culprit is the end of the shortest beginning of a history that has no order: what contradicts what.
func culprit(m porcupine.Model, history []porcupine.Operation) (lines []string) {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	n := 1
	for n < len(history) && porcupine.CheckOperationsTimeout(m, history[:n], time.Second) == porcupine.Ok {
		n++
	}
	for _, op := range history[max(0, n-8):n] {
		lines = append(lines, op.Input.(step).describe())
	}
	return lines
}

// step is one thing that an operation does, or may have done. Its answer is in it.
type step struct {
	Op
	id int
	// note and late are the two halves of a promote without an answer: a store in which values are published by being added
	// first notes in the record what it is about to add.
	note, late bool
}

// stepsOnRecord are the steps of the i-th operation on the record of a secret and on what is current there.
func stepsOnRecord(i int, op Op, lag time.Duration) (all []porcupine.Operation) {
	add := func(s step, end int64) {
		all = append(all, porcupine.Operation{Input: s, Call: op.Call, Return: end})
	}
	s := step{Op: op, id: i}
	switch {
	case op.Kind == Promote && (op.Outcome == Unknown || op.Outcome == Refused):
		note, late := s, s
		note.note, late.late = true, true
		add(note, open)
		if op.Outcome == Unknown {
			add(late, open)
		}
	case op.Kind == Promote && op.Outcome == Conflict:
		// It may be for another reason than the revision.
	case op.Kind == Save && op.Outcome == Unknown:
		add(s, open)
	case op.Kind == Save && op.Outcome != Refused, op.Outcome == OK && (op.Kind == Load || op.Kind == Promote):
		add(s, op.Return)
	case op.Kind == Published && op.Outcome == OK && lag < time.Millisecond:
		add(s, op.Return)
	}
	return all
}

// recordState is what is known of a record.
type recordState struct {
	// bound: the record is known; current may be known before.
	bound          bool
	record         string
	current        string
	pending        string
	revision, past string
	// noted is the promote that the record has noted, plus 1.
	noted int
}

// rest is a record without what is current, for which there is a state of its own, and previous, which follows from it.
func rest(r *store.Record) string {
	c := *r
	c.Current, c.Previous, c.Pending = nil, nil, nil
	text, _ := json.Marshal(c)
	return string(text)
}

func pendingOf(r *store.Record) string {
	if r.Pending == nil {
		return ""
	}
	return r.Pending.Fingerprint + " " + r.Pending.Number
}

func currentOf(r *store.Record) string {
	if r.Current == nil {
		return ""
	}
	return r.Current.Fingerprint
}

// at reports whether the record can be at a revision: at the one that is known, or at one that it was not at before an
// unanswered change.
func (s recordState) at(revision string) bool {
	switch {
	case !s.bound:
		return true
	case s.revision != "":
		return s.revision == revision
	}
	return !strings.Contains(s.past, "|"+revision+"|")
}

// changed is the state after an unanswered change from a revision.
func (s recordState) changed(from string) recordState {
	s.revision, s.past = "", s.past+"|"+from+"|"
	return s
}

// with is the state with a record that somebody has read or written.
func (s recordState) with(r *store.Record, revision string) recordState {
	s.bound, s.record, s.pending, s.revision = true, rest(r), pendingOf(r), revision
	if c := currentOf(r); c != "" {
		s.current = c
	}
	return s
}

// agrees reports whether what is current fits what is known.
func (s recordState) agrees(fingerprint string) bool {
	return s.current == "" || fingerprint == "" || s.current == fingerprint
}

// promoted is the state after a value was made current. Who had it pending has it no more.
func (s recordState) promoted(fingerprint string) recordState {
	if strings.HasPrefix(s.pending, fingerprint+" ") {
		s.pending = ""
	}
	s.current = fingerprint
	return s
}

// recordModel: a register that changes by compare-and-set on its revision, with a pointer to what is current.
var recordModel = porcupine.Model{
	Init: func() any { return recordState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(recordState), input.(step)
		switch op.Kind {
		case Published:
			if !s.agrees(op.Fingerprint) {
				return false, s
			}
			s.current = op.Fingerprint
		case Load:
			if !s.at(op.AfterRevision) || !s.agrees(currentOf(op.After)) || s.bound && (s.record != rest(op.After) || s.pending != pendingOf(op.After)) {
				return false, s
			}
			return true, s.with(op.After, op.AfterRevision)
		case Save:
			switch op.Outcome {
			case OK:
				// A save never changes what applications read.
				if !s.at(op.Revision) || !s.agrees(currentOf(op.Before)) {
					return false, s
				}
				return true, s.with(op.Before, op.AfterRevision)
			case Conflict:
				return !s.bound || s.revision != op.Revision, s
			}
			if s.at(op.Revision) {
				return true, s.with(op.Before, "").changed(op.Revision)
			}
		case Promote:
			switch {
			case op.note:
				if s.at(op.Revision) {
					s = s.with(op.Before, "").changed(op.Revision)
					s.noted = op.id + 1
				}
			case op.late:
				if s.noted == op.id+1 {
					s = s.promoted(op.Fingerprint)
				}
			default:
				if !s.at(op.Revision) || currentOf(op.After) != op.Fingerprint {
					return false, s
				}
				return true, s.with(op.After, op.AfterRevision)
			}
		}
		return true, s
	},
}

// version is one version of a secret.
type version struct {
	rotation.Location
	number string
}

func (v version) String() string { return "version " + v.number + " of " + v.Location.String() }

// stepsOnVersions are the steps of an operation on single versions.
func stepsOnVersions(op Op) map[version][]porcupine.Operation {
	all := map[version][]porcupine.Operation{}
	add := func(number string, s step, end int64) {
		v := version{op.Where, number}
		all[v] = append(all[v], porcupine.Operation{Input: s, Call: op.Call, Return: end})
	}
	switch {
	case op.Kind == Add && op.Outcome == OK:
		add(op.Answered, step{Op: op}, op.Return)
	case op.Kind == Read && (op.Outcome == OK || op.NotFound), op.Kind == Destroy && (op.Outcome == OK || op.Outcome == Unknown):
		add(op.Number, step{Op: op}, op.Return)
	case op.Kind == Promote && op.Outcome == OK:
		add(op.Answered, step{Op: op}, op.Return)
		if op.Answered != op.Number {
			// The copy that was pending may be destroyed.
			add(op.Number, step{Op: op, late: true}, open)
		}
	}
	return all
}

const destroyed = "destroyed"

// versionModel: a version holds one value for ever, and is gone for ever when it is destroyed. The state is
// its fingerprint; empty while nobody knows it.
var versionModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(string), input.(step)
		switch {
		case op.Kind == Add:
			// AWS answers a put that it knows with the version that there is.
			return s == "" || s == op.Fingerprint, op.Fingerprint
		case op.Kind == Destroy || op.late:
			return true, destroyed
		case op.NotFound:
			return s == "" || s == destroyed, s
		}
		return s == "" || s == op.Fingerprint, op.Fingerprint
	},
}
