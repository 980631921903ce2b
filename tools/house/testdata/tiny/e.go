package tiny

func e(g generic[int]) { _ = g.get() }
