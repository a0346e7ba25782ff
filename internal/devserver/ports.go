package devserver

import (
	"fmt"
	"math/rand/v2"
	"net"

	"go.temporal.io/server/temporal"
)

// ports of loopback that one server listens on, by the order of temporal.DefaultServices. The frontend's service
// listens on frontend instead of its grpc port.
type ports struct {
	frontend         int
	grpc, membership []int
}

// choosePorts returns ports that are free and differ from each other. frontend 0 takes any.
func choosePorts(frontend int) (ports, error) {
	// Held until all are chosen: a port that was let go could be drawn twice.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	draw := func() (int, error) {
		l, err := listenBelowOutgoing()
		if err != nil {
			return 0, fmt.Errorf("the embedded Temporal server needs a port: %w", err)
		}
		held = append(held, l)
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	p := ports{frontend: frontend}
	var err error
	if frontend == 0 {
		if p.frontend, err = draw(); err != nil {
			return ports{}, err
		}
	} else {
		l, err := listen(frontend)
		if err != nil {
			return ports{}, fmt.Errorf("port %d cannot be used; is another Temporal running? Choose another port: %w", frontend, err)
		}
		held = append(held, l)
	}
	for range temporal.DefaultServices {
		grpc, err := draw()
		if err != nil {
			return ports{}, err
		}
		membership, err := draw()
		if err != nil {
			return ports{}, err
		}
		p.grpc, p.membership = append(p.grpc, grpc), append(p.membership, membership)
	}
	return p, nil
}

// listenBelowOutgoing listens on a port that no outgoing connection takes once it is let go. The system's own choice
// would come from the range that it gives to those.
func listenBelowOutgoing() (net.Listener, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = listen(15000 + rand.IntN(17000)); err == nil { //nolint:gosec // a port is not a secret
			return l, nil
		}
	}
	return nil, fmt.Errorf("no free port on loopback: %w", err)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
