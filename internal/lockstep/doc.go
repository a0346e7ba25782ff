// Package lockstep drives the real worker of Temporal's Go SDK one workflow task at a time. It plays the part of
// Temporal's frontend in memory, so that a test can put any set of events into one workflow task: an activity's
// result together with two signals, a timer, an update, a cancel. The SDK's test environment cannot do that, because
// it delivers one callback at a time, and so hides what happens when two things come at once.
//
// Only workflow code runs. The outcomes of activities, timers, child workflows and messages to other workflows are
// the test's to choose, and so is the time. Everything between two calls of Run.Task reaches the workflow in one
// workflow task, in the order in which the test said it:
//
//	f := lockstep.New(t, func(r worker.WorkflowRegistry) { r.RegisterWorkflow(MyWorkflow) }, lockstep.Options{})
//	run := f.Start("MyWorkflow", lockstep.StartOptions{}, input)
//	run.MustTask()
//	run.CompleteActivity(run.Pending().Activities[0].ID, result)
//	run.Signal("stop", "now")
//	run.MustTask() // both at once
//
// Between two tasks the worker can lose its cache (Run.DropCache, Run.LoseCache) or another worker can take over
// (Run.OtherWorker); all make the workflow replay. Run.Reset goes back to an earlier workflow task. Run.Meanwhile puts events where they are hardest to get at in practice: behind the
// back of a workflow task that is already running. Run.History is a history that the SDK's replayer accepts.
//
// What differs from a server: every workflow task is attempt 1, because the SDK answers no other; an activity counts
// as picked up by a worker as soon as it is scheduled, unless Run.NotPickedUp says otherwise; nothing is retried by
// itself, so the failure of an activity is its last one; nothing times out by itself. All workers share the SDK's
// one cache of the process, in which a workflow has one place: the worker that takes over always replays. Local
// activities run for real.
package lockstep
