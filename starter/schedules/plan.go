package schedules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Action is what has to be done to the schedule of a key.
type Action string

// The actions.
const (
	// Unchanged: the schedule is as rekey.yaml wants it, or as a person has paused it.
	Unchanged Action = "unchanged"
	Create    Action = "create"
	Update    Action = "update"
	Pause     Action = "pause"
	Unpause   Action = "unpause"
	// Delete: rekey.yaml has no such key any more. Only prune does it.
	Delete Action = "delete"
	// Blocked: the schedule of that name is not ours; it is never touched.
	Blocked Action = "blocked"
)

// pauseNote begins the note of every pause that rekey.yaml asked for. Any other pause is a person's, and stays.
const pauseNote = "rekey.yaml:"

// Actual is a schedule as Temporal has it.
type Actual struct {
	Key string
	// Install is whose schedule it is; empty if it is none of rekey's.
	Install  string
	Settings Settings
	Paused   bool
	// Note says why it is paused.
	Note string
	// Next are its next beats.
	Next   []time.Time
	Missed Missed

	token []byte
}

// byHand: a person has paused the schedule.
func (a Actual) byHand() bool { return a.Paused && !strings.HasPrefix(a.Note, pauseNote) }

// Missed counts the beats that came to nothing since the schedule was made.
type Missed struct {
	// TooLate: Temporal was down for longer than is caught up.
	TooLate int64 `json:"tooLate,omitempty"`
	// Overlapped: the dispatcher of an earlier beat still waited for a worker.
	Overlapped int64 `json:"overlapped,omitempty"`
	Dropped    int64 `json:"dropped,omitempty"`
}

// Beats is how many came to nothing.
func (m Missed) Beats() int64 { return m.TooLate + m.Overlapped + m.Dropped }

func (m Missed) String() string {
	var parts []string
	for _, p := range []struct {
		n   int64
		why string
	}{{m.TooLate, "Temporal was down too long"}, {m.Overlapped, "an earlier beat still waited for a worker, or several came at once"}, {m.Dropped, "too many waited"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d (%s)", p.n, p.why))
		}
	}
	return strings.Join(parts, ", ")
}

// Change is one setting that differs.
type Change struct {
	Setting string `json:"setting"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
}

// KeyPlan is what has to be done for one key, and what there is to know about its schedule.
type KeyPlan struct {
	Key     string   `json:"key"`
	Action  Action   `json:"action"`
	Changes []Change `json:"changes,omitempty"`
	// Paused: the schedule stands still, now or after the step.
	Paused bool `json:"paused,omitempty"`
	// Notes are for the reader.
	Notes  []string `json:"notes,omitempty"`
	Missed Missed   `json:"missed,omitzero"`
	// Beats are the next beats of the schedule as it will be; none while it is paused.
	Beats []time.Time `json:"beats,omitempty"`

	desired *Desired
}

// Plan is what differs between rekey.yaml and the schedules.
type Plan struct {
	Install string `json:"install"`
	// Keys are in the order of rekey.yaml; what it does not have comes last, by name.
	Keys []KeyPlan `json:"steps"`
}

// Count is how many steps have one of the given actions.
func (p Plan) Count(actions ...Action) (n int) {
	for _, s := range p.Keys {
		if slices.Contains(actions, s.Action) {
			n++
		}
	}
	return n
}

// Applies is how many steps apply would take.
func (p Plan) Applies() int { return p.Count(Create, Update, Pause, Unpause) }

// NewPlan compares what an install wants with what there is, at a moment. It asks nobody and changes nothing.
func NewPlan(install string, desired []Desired, actual []Actual, now time.Time) (Plan, error) {
	there := map[string]Actual{}
	for _, a := range actual {
		there[a.Key] = a
	}
	p := Plan{Install: install}
	for _, d := range desired {
		a, exists := there[d.Key.Name]
		delete(there, d.Key.Name)
		step, err := compare(install, d, a, exists, now)
		if err != nil {
			return p, err
		}
		p.Keys = append(p.Keys, step)
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if a := there[name]; a.Install == install {
			p.Keys = append(p.Keys, KeyPlan{Key: name, Action: Delete, Missed: a.Missed})
		}
	}
	return p, nil
}

// compare finds the step for one key, at a moment.
func compare(install string, d Desired, a Actual, exists bool, now time.Time) (KeyPlan, error) {
	wanted, err := schedule(install, d.Key)
	if err != nil {
		return KeyPlan{}, err
	}
	s := decideAction(install, d, a, exists, settings(wanted))
	if s.Paused || s.Action == Blocked {
		return s, nil
	}
	s.Beats = a.Next
	if s.Action == Create || s.Action == Update || len(s.Beats) == 0 {
		s.Beats = d.Key.Policy.Window.Beat(install, d.Key.Name).Next(now, 3)
	}
	return s, nil
}

func decideAction(install string, d Desired, a Actual, exists bool, wanted Settings) KeyPlan {
	s := KeyPlan{Key: d.Key.Name, Paused: d.Paused, desired: &d}
	if !exists {
		s.Action = Create
		return s
	}
	s.Missed = a.Missed
	switch {
	case a.Install == "":
		s.Action, s.Notes = Blocked, []string{"the schedule of that name was not made by rekey. Look at it; delete it in the Temporal UI, then apply again"}
		return s
	case a.Install != install:
		s.Action, s.Notes = Blocked, []string{fmt.Sprintf("the schedule belongs to rekey installation %s. Give each installation a Temporal namespace of its own", a.Install)}
		return s
	}
	s.Changes = differences(a.Settings, wanted)
	if len(s.Changes) > 0 && s.Changes[0].Setting != "memo."+digestMemo && a.Settings["memo."+digestMemo] != digest(a.Settings) {
		s.Notes = append(s.Notes, "somebody has changed the schedule by hand since the last apply; apply puts it back")
	}
	switch {
	case a.byHand():
		s.Paused = true
		s.Notes = append(s.Notes, fmt.Sprintf("paused by hand (%q) and stays so: unpause it in the Temporal UI", a.Note))
	case d.Paused != a.Paused:
		s.Changes = append(s.Changes, Change{"paused", fmt.Sprint(a.Paused), fmt.Sprint(d.Paused)})
	}
	switch {
	case len(s.Changes) == 0:
		s.Action = Unchanged
	case len(s.Changes) > 1 || s.Changes[0].Setting != "paused":
		s.Action = Update
	case d.Paused:
		s.Action = Pause
	default:
		s.Action = Unpause
	}
	return s
}

// differences lists the settings that differ, by name. A digest that differs is shown only if nothing else does.
func differences(from, to Settings) []Change {
	var all []Change
	names := maps.Clone(from)
	maps.Copy(names, to)
	for name := range names {
		if from[name] != to[name] {
			all = append(all, Change{name, from[name], to[name]})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.Setting, b.Setting) })
	if len(all) > 1 {
		all = slices.DeleteFunc(all, func(c Change) bool { return c.Setting == "memo."+digestMemo })
	}
	return all
}
