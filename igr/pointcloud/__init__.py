"""What is done with a cloud before a network sees it.

    checks     warn about clouds that train badly
    cleaning   remove duplicates and outliers, thin
    alignment  several scans as one cloud
    noise      scatter and spacing of the points: are they few or scattered?
    winding    normals by winding numbers
    normals    given normals checked, missing ones estimated

It may import geometry, formats, backend.
"""
