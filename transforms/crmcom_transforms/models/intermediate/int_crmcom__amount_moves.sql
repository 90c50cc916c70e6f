with final as (

    {{ amount_moves() }}

)

select * from final
