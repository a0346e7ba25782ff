package model

import (
	"fmt"

	"github.com/rekeyhq/rekey/rotation"
)

// An invariant returns what is wrong with what happened; empty if nothing is.
type invariant struct {
	name  string
	holds func(from State, in Input, to State) string
}

var invariants = []invariant{
	{"I1", I1}, {"I2", I2}, {"I3", I3}, {"I4", I4}, {"I6", I6}, {"I7", I7}, {"I8", I8}, {"I9", I9}, {"I10", I10},
	{"diagram", inDiagram}, {"emergency", emergencyServed}, {"leaked", nothingLeakedComesBack},
}

// check returns what an invariant says against a transition.
func (m Model) check(from State, in Input, to State) error {
	for _, i := range invariants {
		if i.name == "diagram" && m.breaks(OffDiagram) {
			continue
		}
		if wrong := i.holds(from, in, to); wrong != "" {
			return fmt.Errorf("%s: %s", i.name, wrong)
		}
	}
	return nil
}

// taken are the keys that the engine itself took away, or asked to take away: also if nobody answered.
func taken(from State, in Input, to State) Keys {
	if in == RequestDone || in == RequestLate {
		return (from.Live|from.Off)&^(to.Live|to.Off) | from.Live&^to.Live | (to.LateDelete|to.LateDisable)&^(from.LateDelete|from.LateDisable)
	}
	return 0
}

// I1: at every moment the value that applications read as current is accepted by the provider (excepted: emergencies
// without grace, within the stores' read lag, and --revoke-first). What somebody else took away is not rekey's doing.
func I1(_ State, _ Input, s State) string {
	if bad := s.currents() &^ s.Live &^ s.Killed &^ s.Sacrificed; bad != 0 {
		return fmt.Sprintf("applications read %v, which the provider refuses", bad)
	}
	return ""
}

// I2: the old key is never revoked before the new one is verified in every store and published, and grace and guard are
// over. An emergency has neither.
func I2(from State, in Input, to State) string {
	gone := taken(from, in, to)
	if gone == 0 || from.Step != disable && from.Step != remove {
		return ""
	}
	keep := from.incoming()
	switch {
	case !from.Verified.has(keep):
		return fmt.Sprintf("%v goes, and %v was not verified", gone, keep)
	case !from.reads(keep):
		return fmt.Sprintf("%v goes, and applications do not read %v everywhere", gone, keep)
	case !from.Live.has(keep) && !from.Emergency: // what leaked does not stay for want of another
		return fmt.Sprintf("%v goes, and %v, which applications read, is refused", gone, keep)
	case !from.Emergency && !(from.GraceOver && from.Released):
		return fmt.Sprintf("%v goes, and grace and guard are not over", gone)
	}
	return ""
}

// I3: whatever crashes, hangs, answers late, twice or never: in the end no orphan stays, no key is lost, and no rotation
// is stuck without saying so. Where the record of the claim stays, the next rotation sweeps.
func I3(_ State, in Input, s State) string {
	if !s.Closed() {
		return ""
	}
	switch {
	case s.Claim == 0 && s.remains() != 0:
		return fmt.Sprintf("it has ended, and %v is an orphan", s.remains())
	case s.Step == completed && (s.Commitment != looking || s.Follows) && s.remains()&^set(s.own()) != 0:
		return fmt.Sprintf("it has completed, and %v is left", s.remains())
	case s.LateMint != 0 && s.Claim == 0:
		return "it has ended, and a mint may still take effect"
	case s.Commitment != looking && s.Commitment != discarding && !s.empty() && len(s.currents().each()) != 1:
		return "it has ended, and stores disagree"
	case s.Commitment != looking && s.Commitment != discarding && s.empty():
		return "it has ended, and a store has no value"
	}
	if lost := s.Live & set(Duty, Old) &^ s.currents() &^ s.Owed; lost != 0 {
		return fmt.Sprintf("it has ended, %v is live, and nobody knows of it any more", lost)
	}
	return ""
}

// I4: rekey deletes only keys that it minted (exact stamp, this install) or that it was told to replace.
func I4(from State, in Input, to State) string {
	if foreign := taken(from, in, to) &^ from.minted() &^ from.Olds &^ from.Owed; foreign != 0 {
		return fmt.Sprintf("%v is neither rekey's own nor a key to replace", foreign)
	}
	return ""
}

// I5 (no key material leaves worker memory) cannot be said here: the model has no values, only names.

// I6: one rotation per key at a time. Only the one that runs changes what applications read, and to its own key.
func I6(from State, _ Input, to State) string {
	for i := range from.Stores {
		if now := to.Stores[i].Current; now != from.Stores[i].Current && now != from.incoming() {
			return fmt.Sprintf("applications read %v, which is not this rotation's", now)
		}
	}
	if to.Claim > to.Round {
		return "a rotation that has not begun holds the claim"
	}
	return ""
}

// I7: every rotation ends in completed, rolled-back, or waits visibly for a named action by a person, with reminders and a
// deadline. That it does end is what Ends follows.
func I7(_ State, _ Input, s State) string {
	switch {
	case s.Closed() && (s.Request || s.Fact != Nothing):
		return "it has ended with something undecided"
	case s.Step == approval && s.Question == NoQuestion:
		return "it waits, and does not say for what"
	case s.Step != approval && s.Question != NoQuestion:
		return "it asks, and does not wait"
	}
	return ""
}

// I8: while stores disagree about the current version, every value in them is accepted and nothing is revoked.
func I8(from State, in Input, to State) string {
	if len(from.currents().each()) < 2 {
		return ""
	}
	if bad := from.currents() &^ from.Live &^ from.Killed &^ from.Sacrificed; bad != 0 {
		return fmt.Sprintf("stores disagree, and %v is refused", bad)
	}
	if gone := taken(from, in, to) & (from.currents() | from.Olds) &^ to.Sacrificed; gone != 0 && !from.minted().all(gone) {
		return fmt.Sprintf("stores disagree, and %v is revoked", gone)
	}
	return ""
}

var places = func() map[rotation.State]bool {
	all := map[rotation.State]bool{}
	for _, t := range rotation.Diagram() {
		for _, s := range t.From {
			all[rotation.State{Step: s, Commitment: t.In}] = true
		}
		for _, s := range t.To {
			all[rotation.State{Step: s, Commitment: t.Into}] = true
		}
	}
	return all
}()

var isPlace = func() (is [64][8]bool) {
	for i, s := range steps {
		for j, c := range commitments {
			is[i][j] = places[rotation.State{Step: s, Commitment: c}]
		}
	}
	return is
}()

// I9: a rotation survives restarts, a reset, and a restored backup (which may stop and ask, never destroy). Wherever it is
// put, it is in the diagram, and everything else here holds.
func I9(_ State, _ Input, s State) string {
	if !isPlace[s.Step][s.Commitment] {
		return fmt.Sprintf("%s is no place in the diagram", s.At())
	}
	return ""
}

// I10: a key under four eyes is not taken away, by any path, without two signatures for exactly that; an emergency is the
// one exception, and is recorded as one.
func I10(from State, in Input, to State) string {
	if !from.shape().FourEyes || from.Emergency {
		return ""
	}
	if in == SayApprove && to.Mandate&^from.Mandate != 0 && to.Signatures < 2 {
		return "one signature is enough"
	}
	if gone := taken(from, in, to); (from.Step == disable || from.Step == remove || from.Step == contain) && (!from.Mandate.all(gone) || from.Void && gone != 0) {
		return fmt.Sprintf("%v goes without two signatures", gone)
	}
	return ""
}

var allowed = func() (is [64][8][64][8]bool) {
	for a, s := range steps {
		for b, c := range commitments {
			for x, t := range steps {
				for y, d := range commitments {
					from, to := rotation.State{Step: s, Commitment: c}, rotation.State{Step: t, Commitment: d}
					is[a][b][x][y] = rotation.Allowed(from, to)
				}
			}
		}
	}
	return is
}()

// begins reports whether a transition is no arrow, but the beginning of another rotation or another life of this one.
func begins(from State, in Input, to State) bool { return from.Round != to.Round || in >= Reset }

// inDiagram: every transition is an arrow.
func inDiagram(from State, in Input, to State) string {
	if !begins(from, in, to) && !allowed[from.Step][from.Commitment][to.Step][to.Commitment] {
		return fmt.Sprintf("no arrow from %s to %s", from.At(), to.At())
	}
	return ""
}

// emergencyServed: an emergency is never counted as served while something that it named is live and accepted. A
// roll-back says loudly that it was not.
func emergencyServed(_ State, _ Input, s State) string {
	bad := s.Leaked & s.Live
	if s.shape().SupplyByHand {
		// A person made it, and no store has it: the result says that a person has to revoke it.
		bad &^= set(New1, New2) &^ s.values()
	}
	if s.Step == completed && s.Emergency && bad != 0 {
		return fmt.Sprintf("it has completed, and %v, which leaked, is live", bad)
	}
	if s.Step == completed && !s.Emergency && bad != 0 {
		return "it has completed, and knows of no emergency"
	}
	return ""
}

// nothingLeakedComesBack: nothing ever rolls back to a leaked key, and none is published, once the rotation has heard of it.
func nothingLeakedComesBack(_ State, in Input, s State) string {
	if in != Decide || s.Follow {
		return ""
	}
	switch {
	case s.Commitment == reversing && s.Leaked.has(s.Back) && !s.Closed():
		return fmt.Sprintf("it goes back to %v, which leaked", s.Back)
	case s.Commitment == bothKeys && s.Leaked.has(s.Back):
		return fmt.Sprintf("it can go back to %v, which leaked", s.Back)
	case s.Step == promote && s.Leaked.has(s.incoming()):
		return fmt.Sprintf("it publishes %v, which leaked", s.incoming())
	}
	return ""
}
