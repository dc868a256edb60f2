"""From the level set of the network to the mesh that is written.

    projection      project points onto the level set, weigh outliers
    detail          heights of the points over the level set
    orientation     normals of the surface with detail
    trimming        cut a mesh where it is far from its cloud
    simplification  fewer faces, and what they cost
    coloring        the cloud's colours for a mesh

It may import geometry, backend.
"""
