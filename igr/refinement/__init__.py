"""From the level set of the network to the mesh that is written.

    projection      project points onto the level set, their heights over it, outliers
    detail          smooth these heights (by geometry.regression), move the mesh by them
    orientation     normals of the surface with detail
    trimming        cut a mesh where it is far from its cloud (infer.py decides when)
    verdict         whether a mesh is good, doubtful or a ruin, and what to do
    simplification  fewer faces, and what they cost
    coloring        the cloud's colours for a mesh

It may import geometry, backend.
"""
