package triggers

import (
	"container/list"
	"context"
	"net"
	"sync"
)

// maxConnections is how many connections are open at once: far more than senders need, far fewer than a process may have.
const maxConnections = 256

// limitedListener is a listener with a limit. When it is reached the oldest connection goes whose sender has proven nothing yet:
// whoever opens many and says nothing pushes out its own, and a delivery that comes meanwhile is served.
type limitedListener struct {
	net.Listener
	limit int

	mu sync.Mutex
	// open are the connections, the oldest first.
	open list.List
}

// connection is one of them. Its sender is known while a delivery that it has signed is being answered.
type connection struct {
	net.Conn
	doorway *limitedListener
	place   *list.Element
	known   bool
	closing sync.Once
}

// Accept implements net.Listener.
func (d *limitedListener) Accept() (net.Conn, error) {
	for {
		inner, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: inner, doorway: d}
		goes := d.enter(c)
		if goes != nil {
			_ = goes.Close()
		}
		if goes != c {
			return c, nil
		}
	}
}

// enter takes a connection in, and returns the one that has to go for it, which can be itself.
func (d *limitedListener) enter(c *connection) (goes *connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.place = d.open.PushBack(c)
	if d.open.Len() <= d.limit {
		return nil
	}
	for e := d.open.Front(); ; e = e.Next() {
		if o := e.Value.(*connection); !o.known {
			return o
		}
	}
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.closing.Do(func() {
		c.doorway.mu.Lock()
		defer c.doorway.mu.Unlock()
		c.doorway.open.Remove(c.place)
	})
	return c.Conn.Close()
}

type connectionKey struct{}

// within returns the requests of a connection a way to it.
func within(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// known notes that the sender of a request has proven who it is, until forget is called.
func known(ctx context.Context) (forget func()) {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return func() {}
	}
	set := func(known bool) {
		c.doorway.mu.Lock()
		defer c.doorway.mu.Unlock()
		c.known = known
	}
	set(true)
	return func() { set(false) }
}

// readings are the bodies that are being read, at most maxBodies. One more ends the oldest, with its connection: a sender
// that means it sends a body at once.
type readings struct {
	mu    sync.Mutex
	order list.List
}

// enter begins to read a body on the connection of a request; leave ends it.
func (r *readings) enter(ctx context.Context) (leave func()) {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	place := r.order.PushBack(c)
	if r.order.Len() > maxBodies {
		oldest := r.order.Front()
		r.order.Remove(oldest)
		_ = oldest.Value.(*connection).Close()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order.Remove(place) // nothing if it has been taken out
	}
}
