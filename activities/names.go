package activities

import (
	"errors"

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
	// RegisterActivityWithOptions registers a function under the name that options have.
	RegisterActivityWithOptions(activity any, options activity.RegisterOptions)
}

// RegisterRotation registers what a rotation asks for. It fails where a required field of either group is not set.
func RegisterRotation(r Registry, s *Steps, n *Notifier) error {
	if err := errors.Join(s.check(), n.check()); err != nil {
		return err
	}
	register(r, map[string]any{
		DueName: s.Due, ConflictName: s.Conflict, PrepareName: s.Prepare, CreateName: s.Create, AdoptName: s.Adopt, StoreName: s.Store,
		VerifyName: s.Verify, PromoteName: s.Promote, CheckHealthName: s.CheckHealth, GuardName: s.Guard, RevokeName: s.Revoke,
		ConfirmName: s.Confirm, RetireName: s.Retire, DiscardName: s.Discard, SignersName: s.Signers, NotifyName: n.Notify,
	})
	return nil
}

// RegisterLaunch registers what starts rotations. It fails where a required field is not set.
func RegisterLaunch(r Registry, l *Launcher) error {
	if err := l.check(); err != nil {
		return err
	}
	register(r, map[string]any{
		RaiseAllName: l.RaiseAll, StatusesName: l.Statuses, IdentifyName: l.Identify, StartRotationName: l.StartRotation,
	})
	return nil
}

func register(r Registry, all map[string]any) {
	for name, f := range all {
		r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}
