package model

// Input is one thing that can happen next.
type Input uint8

// What can happen. A worker's death is none of them: an activity that is begun again looks at the world anew, and every
// place at which it can be cut off is a state between two requests.
const (
	// Decide: everything that has arrived was heard, and the rotation decides where to go.
	Decide Input = iota
	// RequestDone: the activity's next request takes effect. RequestLate: it is not answered, and may take effect later.
	// MintLost: the key was minted, and the worker died before it was staged.
	RequestDone
	RequestLate
	MintLost

	// Answers of the activity.
	AnswerOK
	AnswerRefused
	AnswerUnavailable
	AnswerAsked
	AnswerConflict
	AnswerUnusable
	AnswerOldWorks
	AnswerUnused
	AnswerInUse
	AnswerUseUnknown
	AnswerUnsigned
	AnswerPublished
	AnswerAccepted
	AnswerNewRefused
	AnswerGone

	// Messages.
	SayApprove
	SayReject
	SaySupplied
	SayRevoked
	SayExtend
	SayFinish
	SayRollBack
	EmergencyOld
	EmergencyNew
	EmergencyAll
	EmergencyFirst
	EmergencyOther

	// Requests that nobody answered take effect after all.
	LateMint
	LateDisable
	LateDelete

	// Time.
	GraceEnds
	RecheckDue
	SoakEnds
	Deadline
	Horizon

	// Other people.
	PersonRevokes
	SomebodyKillsNew
	SomebodyKillsOld
	SomebodyMends
	OperatorLeaves
	Reset
	ResetToVerify
	Terminate

	inputs
)

var inputNames = []string{
	"decides", "a request takes effect", "a request is not answered", "minted, and the worker dies before it is staged",
	"answer: done", "answer: refused for good", "answer: unavailable", "answer: a person has to agree", "answer: conflict",
	"answer: the key cannot be used", "answer: the key that applications read is refused, the other works", "answer: unused", "answer: in use", "answer: use unknown",
	"answer: signatures are missing", "answer: published already", "answer: still accepted", "answer: the key that applications read is refused", "answer: gone",
	"message: approve", "message: reject", "message: key-supplied", "message: key-revoked", "message: extend-grace", "message: finish-grace", "message: roll-back",
	"message: emergency, the old key", "message: emergency, the new key", "message: emergency, everything", "message: emergency, the old key, revoke first", "message: emergency, a name that nobody knows",
	"an unanswered mint takes effect", "an unanswered disable takes effect", "an unanswered delete takes effect",
	"time: grace is over", "time: look at the key again", "time: the soak is over", "time: the deadline passes", "time: the horizon is over",
	"a person revokes the key", "somebody takes the new key away", "somebody takes the old key away", "somebody makes it work again", "an operator leaves",
	"the workflow is reset to its beginning", "the workflow is reset to verify", "the workflow is terminated, and another one begins",
}

func (i Input) String() string { return inputNames[i] }

// Message reports whether an input is what somebody sends.
func (i Input) Message() bool { return i >= SayApprove && i <= EmergencyOther }

// answer reports whether an input is the answer of an activity.
func (i Input) answer() bool { return i >= AnswerOK && i <= AnswerGone }
