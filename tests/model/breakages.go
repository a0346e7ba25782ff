package model

// Breakage is a set of deliberate mistakes in the model. The invariants must notice each: see TestEveryMistakeIsNoticed.
type Breakage uint64

// The mistakes.
const (
	// DecideFirst: a step decides before it has heard what arrived together with its result.
	DecideFirst Breakage = 1 << iota
	// KeepRequest: an emergency that joins does not clear a roll-back that was asked for. DoRequest: and it is carried out
	// whatever the commitment.
	KeepRequest
	DoRequest
	// JoinBackwards: an emergency joins a rotation that is rolling back.
	JoinBackwards
	// IgnoreNewKey: no other rotation follows when the new key leaked.
	IgnoreNewKey
	// OldEyes: prepare is not done again when an emergency came while it looked.
	OldEyes
	// StayBothKeys: an emergency leaves the way back open.
	StayBothKeys
	// ReturnToLeaked: a delete that is refused returns to BothKeys although an emergency came meanwhile.
	ReturnToLeaked
	// SkipGuard: the old key goes without guard. SkipGrace: it goes before grace is over.
	SkipGuard
	SkipGrace
	// OneSignature is enough for the workflow, NoSignatures are asked for by the activity.
	OneSignature
	NoSignatures
	// NoSettling: nothing waits until requests to take a key away that were not answered can no longer take effect.
	NoSettling
	// EnableForEver: a roll-back enables the old key as long as it is refused.
	EnableForEver
	// NoHorizon: neither mint nor sweep wait for requests that were not answered.
	NoHorizon
	// NoSweep: what abandoned attempts left stays.
	NoSweep
	// NoDuties: promote writes no duties down. ForgetFirst: it takes the incoming key out of them before the flip.
	NoDuties
	ForgetFirst
	// SkipStore: the value is brought to no other store. VerifyOneStore: verify is content with one store, NoVerify with none.
	SkipStore
	VerifyOneStore
	NoVerify
	// TakeCurrent: a revoke does not look into the stores first.
	TakeCurrent
	// NoProof: a revoke does not prove once more what stays.
	NoProof
	// RetireBlindly: retire forgets a key that is still accepted. SkipConfirm: nobody looks whether what a person says is so.
	RetireBlindly
	SkipConfirm
	// ForgetPredecessor: a rotation that follows and has nothing to do leaves what the one before it left.
	ForgetPredecessor
	// PublishOwnLeaked: a rotation that was reset goes on with what it had minted, although that has leaked.
	PublishOwnLeaked
	// PublishRolledBack: a rotation that was reset while it rolled back goes on with the key that it went back from.
	PublishRolledBack
	// DiscardIntoLeaked: a rotation that was reset and finds its key published rolls back in an emergency, too.
	DiscardIntoLeaked
	// PublishUnproven: where a roll-back is given up the new key is published without being proven again.
	PublishUnproven
	// LeavePending: a rotation that only finishes leaves what is staged, and its revokes are refused for it.
	LeavePending
	// ProveTheDead: a key that did not pass is proven again for ever.
	ProveTheDead
	// KeepMandate: missing signatures do not make guard ask again.
	KeepMandate
	// DeleteSupplied: a roll-back deletes a key that a person made.
	DeleteSupplied
	// HalfPromote: grace begins when the first store has the new value.
	HalfPromote
	// OffDiagram is no mistake: the diagram is not looked at, so that something else has to notice.
	OffDiagram
)
