package model

// Breakage is one deliberate mistake in the model. The invariants must notice each.
type Breakage uint8

// The mistakes.
const (
	Whole Breakage = iota
	DecideFirst
	KeepRequest
	JoinBackwards
	IgnoreNewKey
	OldEyes
	StayBothKeys
	ReturnToLeaked
	OneSignature
	NoSignatures
	AlwaysBack
	NoEnable
	EnableOnce
	NoSoak
	NoHorizon
	NoDuties
	NoSweep
	BelieveInput
	ForgetLive
	ForgetPredecessor
	VerifyOneStore
	ForgetFirst
	PublishOwnLeaked
	DiscardIntoLeaked
	PublishUnproven
	NoNote
	EnableForEver
	LeavePending
	ProveTheDead
)
