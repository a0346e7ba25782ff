package workflows

import (
	"go.temporal.io/sdk/workflow"
)

// Registry is where workflows are registered: a worker, a replayer, or the SDK's test environment.
type Registry interface {
	RegisterWorkflowWithOptions(workflow any, options workflow.RegisterOptions)
}

// Register registers every workflow of rekey, for those that replay histories and for tests. Workers register what
// belongs to their task queue.
func Register(r Registry) {
	RegisterRotation(r)
	RegisterLaunch(r)
}

// RegisterRotation registers the workflows on the task queue of a provider (ProviderTaskQueue).
func RegisterRotation(r Registry) {
	r.RegisterWorkflowWithOptions(RotateKey, workflow.RegisterOptions{Name: RotateKeyType})
	r.RegisterWorkflowWithOptions(Notify, workflow.RegisterOptions{Name: NotifyType})
}

// RegisterLaunch registers the workflows that start rotations (TaskQueue).
func RegisterLaunch(r Registry) {
	r.RegisterWorkflowWithOptions(Dispatch, workflow.RegisterOptions{Name: DispatchType})
	r.RegisterWorkflowWithOptions(Emergency, workflow.RegisterOptions{Name: EmergencyType})
	r.RegisterWorkflowWithOptions(Trigger, workflow.RegisterOptions{Name: TriggerType})
}
