"""The physics corrector of motions: a gate, a kinematic stage, and simulations in MuJoCo behind one interface."""
