package tiny

func two() int { return len(new(A).other()) } // it uses c.go by a method

type (
	// Alias is none of the types that have methods.
	Alias = A
	small struct{}
)

func (small) m() {}
