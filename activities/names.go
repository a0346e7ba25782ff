package activities

import (
	"go.temporal.io/sdk/activity"
)

// RotateKeyType is the workflow type that rotates one key. Only its runs may change a key.
const RotateKeyType = "RotateKey"

// workflowPrefix begins the workflow ids of rotations.
const workflowPrefix = "rotate/"

// WorkflowID returns the id of the workflow that rotates a key.
func WorkflowID(key string) string { return workflowPrefix + key }

// The names of the activities, as histories have them: a Go method can be renamed, these cannot.
const (
	DueName         = "Due"
	ConflictName    = "Conflict"
	PrepareName     = "Prepare"
	CreateName      = "Create"
	AdoptName       = "Adopt"
	StoreName       = "Store"
	VerifyName      = "Verify"
	PromoteName     = "Promote"
	CheckHealthName = "CheckHealth"
	GuardName       = "Guard"
	RevokeName      = "Revoke"
	ConfirmName     = "Confirm"
	RetireName      = "Retire"
	DiscardName     = "Discard"
	SignersName     = "Signers"

	RaiseAllName      = "RaiseAll"
	StatusesName      = "Statuses"
	IdentifyName      = "Identify"
	StartRotationName = "StartRotation"

	NotifyName = "Notify"
)

// Registry is where activities are registered: a worker, or the SDK's test environment.
type Registry interface {
	RegisterActivityWithOptions(activity any, options activity.RegisterOptions)
}

// RegisterRotation registers what a rotation asks for.
func (a *Activities) RegisterRotation(r Registry) {
	register(r, map[string]any{
		DueName: a.Due, ConflictName: a.Conflict, PrepareName: a.Prepare, CreateName: a.Create, AdoptName: a.Adopt, StoreName: a.Store,
		VerifyName: a.Verify, PromoteName: a.Promote, CheckHealthName: a.CheckHealth, GuardName: a.Guard, RevokeName: a.Revoke,
		ConfirmName: a.Confirm, RetireName: a.Retire, DiscardName: a.Discard, SignersName: a.Signers, NotifyName: a.Notify,
	})
}

// RegisterLaunch registers what starts rotations.
func (a *Activities) RegisterLaunch(r Registry) {
	register(r, map[string]any{
		RaiseAllName: a.RaiseAll, StatusesName: a.Statuses, IdentifyName: a.Identify, StartRotationName: a.StartRotation,
	})
}

func register(r Registry, all map[string]any) {
	for name, f := range all {
		r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}
