package model

import "github.com/rekeyhq/rekey/rotation"

// Key is one key at the provider.
type Key uint8

// The keys that a story can have. A rotation mints one key, and an attempt that was abandoned may leave another.
const (
	NoKey Key = iota
	// Duty is what an earlier rotation promised to revoke, Old what applications read in the beginning.
	Duty
	Old
	New1
	Stray1
	// New2 and Stray2 are of the rotation that follows.
	New2
	Stray2
)

var keyNames = []string{"none", "duty", "old", "new", "stray", "new-2", "stray-2"}

func (k Key) String() string { return keyNames[k] }

// Keys is a set of keys.
type Keys uint8

func set(keys ...Key) Keys {
	var all Keys
	for _, k := range keys {
		all |= 1 << k
	}
	return all &^ 1 // no key is in no set
}

func (s Keys) has(k Key) bool      { return s&set(k) != 0 }
func (s Keys) all(other Keys) bool { return other&^s == 0 }
func (s Keys) each() []Key         { return lists[s] }

func (s Keys) String() string {
	text := ""
	for _, k := range s.each() {
		text += " " + k.String()
	}
	return "{" + text + " }"
}

// lists has the keys of every set, in order.
var lists = func() (all [256][]Key) {
	for s := range all {
		for k := Duty; k <= Stray2; k++ {
			if Keys(s).has(k) {
				all[s] = append(all[s], k)
			}
		}
	}
	return all
}()

// step and commitment are places in rotation's arrays: a state without pointers is a fast key of a map.
type (
	step       uint8
	commitment uint8
)

// The steps and commitments of package rotation.
const (
	conflicts step = iota
	prepare
	contain
	awaitContainment
	create
	awaitKey
	adopt
	store
	verify
	promote
	grace
	recheck
	guard
	approval
	disable
	soak
	remove
	awaitRevocation
	confirm
	retire
	enable
	discard
	completed
	rolledBack
)

const (
	looking commitment = iota
	staged
	discarding
	bothKeys
	reversing
	forwardOnly
)

var steps = []rotation.Step{
	rotation.StepConflicts, rotation.StepPrepare, rotation.StepContain, rotation.StepAwaitContainment, rotation.StepCreate,
	rotation.StepAwaitKey, rotation.StepAdopt, rotation.StepStore, rotation.StepVerify, rotation.StepPromote, rotation.StepGrace,
	rotation.StepRecheck, rotation.StepGuard, rotation.StepApproval, rotation.StepDisable, rotation.StepSoak, rotation.StepDelete,
	rotation.StepAwaitRevocation, rotation.StepConfirm, rotation.StepRetire, rotation.StepEnable, rotation.StepDiscard,
	rotation.StepCompleted, rotation.StepRolledBack,
}

var commitments = rotation.Commitments()

func (s step) name() rotation.Step             { return steps[s] }
func (c commitment) name() rotation.Commitment { return commitments[c] }

// Question is what a person is asked in await-approval.
type Question uint8

// The questions.
const (
	NoQuestion Question = iota
	// ForeignClaim and UnprovenKeys are about what rekey cannot prove to be its own, ChangedCurrent about what somebody else
	// made current.
	ForeignClaim
	UnprovenKeys
	ChangedCurrent
	// ReleasePolicy, ReleaseUnknown and ReleaseInUse ask whether the old key may go, from the least to the gravest.
	ReleasePolicy
	ReleaseUnknown
	ReleaseInUse
	// KeysRefused: applications fail, or may fail; NewRefusedNow: the same, seen while it is proven that the old key is refused.
	KeysRefused
	NewRefusedNow
	// NoWayBack: the old key cannot be gone back to.
	NoWayBack
	// NotRevoked, NotContained, NotCleared, CannotGoOn: a step was refused for good. After an approval it is tried again.
	NotRevoked
	NotContained
	NotCleared
	CannotGoOn
)

var questionNames = []string{"", "foreign claim", "unproven keys", "somebody changed what applications read", "may the old key go", "use unknown, may it go", "in use, may it go", "keys refused", "keys refused now", "no way back", "not revoked", "not contained", "not cleared", "cannot go on"}

// Fact is what the last thing that happened in a step has brought, and what was not decided on yet.
type Fact uint8

// The facts. What each means depends on the step.
const (
	Nothing Fact = iota
	OK
	Refused
	Unavailable
	Asked
	Conflict
	// NotDue, OnlyFinish and Due are prepare's verdicts. Another: this rotation was reset and cannot go on with what it had
	// minted.
	NotDue
	OnlyFinish
	Due
	Another
	Unusable
	OldWorks
	Unused
	InUse
	UseUnknown
	Unsigned
	AlreadyPublished
	Accepted
	NewRefused
	Gone
	// Over: a time that was waited for has come. Look: it is time to look at the key again.
	Over
	Look
	// Claimed, Answered: somebody said so, or the question is moot.
	Claimed
	Answered
)

// Store is what one store holds.
type Store struct {
	// Current is what applications read, Pending what is staged.
	Current, Pending Key
	// Values are the keys of which it can still give the value.
	Values Keys
}

// State is all that the model knows: the world, and the rotation in it.
type State struct {
	// Shape is the place of the story's provider and policy in Shapes.
	Shape uint8

	// The provider. A key that is neither live nor off was never made, or is gone. Killed are those that somebody else
	// took away, Sacrificed those that an emergency took away before there was a new one, Leaked those that one named.
	Live, Off, Killed, Sacrificed, Leaked Keys
	// Requests that nobody answered and that may still take effect, until the horizon is over.
	LateMint, LateDisable, LateDelete Keys
	// Asked are the keys of which the record says that a request to take them away was not answered, until then.
	Asked Keys

	// Stores, the second unused in a story of one; Owed are the duties written down in them; Claim is the round of the
	// rotation that holds the claim, Open whether its last mint may still take effect.
	Stores [2]Store
	Owed   Keys
	Claim  uint8
	Open   bool

	// The rotation.
	Step       step
	Commitment commitment
	// Round is 1, or 2 for the rotation that follows: in the same workflow, if Follows.
	Round   uint8
	Follows bool
	Fact    Fact
	// Olds are the keys to replace, Back the one that applications read before, which Works; Missing: not every store is known
	// to have its value. New is the new key, Supplied whether a person made it.
	Olds     Keys
	Back     Key
	Works    bool
	Missing  bool
	New      Key
	Supplied bool
	// Verified are the keys that were proven from every store; Deleted those whose deletion was answered.
	Verified, Deleted Keys
	// Refused: what was made is refused for good, and another key is to take its place.
	Refused bool
	// Emergency: the reason. Vague: one that names no values means all. First: what leaked goes first. Stale: prepare did not
	// look with the eyes of the emergency.
	Emergency, Vague, First, Stale, Contained bool
	// Request is a roll-back that was not applied yet, Follow an emergency that another rotation serves.
	Request, Follow, FollowFirst, FollowVague bool
	// Out: applications could read the new key once. Began: grace began in this direction. GraceOver: both keys were kept
	// long enough. Released: guard, or a person, let the old one go.
	Out, Began, GraceOver, Released bool
	// Disables are the keys that a disable was ever asked for. Enabled counts how often the old key was enabled on one way
	// back.
	Disables Keys
	Enabled  uint8
	// ByHand: a person says that they have enabled the old key.
	ByHand bool
	// Before: the commitment before delete was BothKeys. DeleteOpen: a delete was not answered.
	Before, DeleteOpen bool
	// Retried: an attempt of the activity that runs was not answered.
	Retried bool
	// Question is what await-approval asks, After the step to which an approval leads.
	Question Question
	After    step
	// Approved is what the last approval was about. Signatures and Mandate are for four eyes; Void: a worker does not take the
	// signatures any more.
	Approved   Question
	Signatures uint8
	Mandate    Keys
	Void       bool
	// EarlySupply and EarlyRevoked are signals that came before their phase.
	EarlySupply, EarlyRevoked bool
	// Resupplied: another key was supplied while one was checked.
	Resupplied bool
	// Overdue: the deadline of a wait has passed.
	Overdue bool

	// Faults counts how often somebody reset or terminated the workflow, or took keys away behind rekey's back. A story has
	// one of those.
	Faults uint8
}

// At is the state in the diagram.
func (s State) At() rotation.State {
	return rotation.State{Step: s.Step.name(), Commitment: s.Commitment.name()}
}

// Closed reports whether the rotation has ended.
func (s State) Closed() bool { return s.Step == completed || s.Step == rolledBack }

func (s State) shape() *Shape { return &stories[s.Shape] }

// stores are the places of the stores that the story has.
func (s State) stores() []int { return bothStores[:s.shape().Stores] }

var bothStores = [...]int{0, 1}

// incoming is the key that this direction makes current, outgoing those that it takes away.
func (s State) incoming() Key {
	if s.Commitment == reversing {
		return s.Back
	}
	return s.New
}

func (s State) outgoing() Keys {
	if s.Commitment == reversing {
		return set(s.New)
	}
	return s.Olds
}

// former is the first of the outgoing keys: the one that applications read before, or the youngest duty.
func (s State) former() Key {
	if s.Commitment != reversing && s.Back != NoKey {
		return s.Back
	}
	all := s.outgoing().each()
	return all[len(all)-1]
}

// own is the key that the rotation mints, stray the one that an abandoned attempt of it leaves.
func (s State) own() Key   { return New1 + 2*Key(s.Round-1) }
func (s State) stray() Key { return s.own() + 1 }

// fresh is the key that a person supplies: another one, where the first cannot be used.
func (s State) fresh() Key {
	if (s.Leaked | s.Killed | s.Olds).has(s.own()) {
		return s.stray()
	}
	return s.own()
}

// currents are the keys that applications read.
func (s State) currents() Keys {
	var all Keys
	for _, i := range s.stores() {
		all |= set(s.Stores[i].Current)
	}
	return all
}

// reads reports whether applications read k in every store.
func (s State) reads(k Key) bool { return k != NoKey && s.currents() == set(k) && !s.empty() }

// empty reports whether a store has no current value.
func (s State) empty() bool {
	for _, i := range s.stores() {
		if s.Stores[i].Current == NoKey {
			return true
		}
	}
	return false
}

// pending are the keys that are staged somewhere, values those of which a store still has the value.
func (s State) pending() (all Keys) {
	for _, i := range s.stores() {
		all |= set(s.Stores[i].Pending)
	}
	return all
}

func (s State) values() (all Keys) {
	for _, i := range s.stores() {
		all |= s.Stores[i].Values
	}
	return all
}

// everywhere reports whether every store has the value of k.
func (s State) everywhere(k Key) bool {
	for _, i := range s.stores() {
		if !s.Stores[i].Values.has(k) {
			return false
		}
	}
	return k != NoKey
}

// minted are the keys that rekey may have made: every one but what was there before, and what a person supplied.
func (s State) minted() Keys {
	all := set(New1, Stray1, New2, Stray2)
	if s.shape().SupplyByHand {
		all = 0
	}
	return all
}

// remains are the keys that this rotation, or the one before it, minted and that stand nowhere.
func (s State) remains() Keys {
	all := s.Live | s.Off
	all &= s.minted() &^ s.currents() &^ s.Owed &^ set(s.New)
	return all
}
