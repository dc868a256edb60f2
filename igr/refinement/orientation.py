"""Find the normals at a cloud's points: those of the surface with detail.

The network's gradient at a point is a smoothed normal. The surface with detail,

    S(b) = b + H(b) n(b) ,   b on {f = 0}, H the detail's height,

has the normal  dS/du x dS/dv  of two tangents u, v at the foot b, taken as central differences: so
it follows what the points say beyond the network, and a side of a thin sheet keeps its direction.
Points without noise know their surface better still: the normal is then that of the quadric through
a point's neighbours, those whose normals agree with its own. Lengths are in the unit frame.
"""

from __future__ import annotations

from igr.geometry import neighbours
from igr.geometry.meshes import unit_vectors
from igr.geometry.regression import of_quadrics, tangents
from igr.refinement.detail import Detail
from igr.refinement.projection import Field, feet_of

import numpy as np

STEP = 0.5  # of the differences, in spacings of the feet
LEAST_STEP = 1.6e-7  # where feet coincide
NEIGHBOUR = 10  # whose distance tells the spacing
BLOCK = 1 << 17  # points at a time, to spare memory


def normals_of(field: Field, detail: Detail, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (N, 3) of points (N, 3), towards larger f, and the mask (N,) of those that have
    a foot on the surface; the others begin with the gradient where they are.

    field: f and its gradient; detail: of these points over {f = 0}.
    """
    feet = feet_of(field, points)
    known = feet.weights > 0
    reach = neighbours.kth_distance(neighbours.tree_of(feet.points),
                                    min(NEIGHBOUR, len(points) - 1))
    step = np.maximum(STEP * neighbours.spacing_of(reach, NEIGHBOUR), LEAST_STEP)[:, None]
    normals = unit_vectors(field(points)[1].astype(np.float64))
    for rows in neighbours.blocks(len(points), BLOCK):
        block = np.flatnonzero(known[rows]) + rows.start
        if len(block) == 0:
            continue
        u, v = tangents(feet.normals[block])
        b, h = feet.points[block], step[block]
        along_u = detail.move(b + h * u) - detail.move(b - h * u)
        along_v = detail.move(b + h * v) - detail.move(b - h * v)
        normals[block] = unit_vectors(np.cross(along_u, along_v))
    if detail.report.rounds and not detail.report.noise:
        normals = of_quadrics(neighbours.tree_of(points), normals)
    return normals, known
