package tiny

type generic[T any] struct{ value T }

func (g generic[T]) get() T { return g.value }

func d() { e(generic[int]{value: F}) } // of e.go
